"""What a sweep would do, told before the hours are spent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from omegaconf import OmegaConf

from ablate.config import compose, merge
from ablate.config.slots import declares
from ablate.duration import duration
from ablate.errors import UserError
from ablate.run.status import RunStatus, look
from ablate.study.definition import Sweep, load
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun, overrides, planned, select
from ablate.sweep import forecast
from ablate.sweep.devices import jobs_at_a_time

SUSTAINED = 4e14  # FLOPs a second: what a well-kept H100 makes of its 9.9e14 in bfloat16


def describe(
    name: str,
    extra: Sequence[str] = (),
    *,
    jobs: int | None = None,
    only: str | Iterable[str] | None = None,
    count: Callable[[Sequence[Any]], Iterable[dict[str, Any]]] | None = None,
) -> str:
    """What the sweep would run, how long that takes, what it could detect; a `UserError` names a row whose settings are wrong.

    `count` says what configurations cost (`ablate.cli.counting.costs`) and so builds each, which finds parts that do not fit
    together; without it, in a quarter of a second, only what runs that are done have counted is told.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs={jobs}: must be at least 1")
    paths = Paths.of(extra)
    sweep = load(name, paths.sweeps)
    chosen = select(sweep, only)
    configs = {row: _config(name, row, overrides(sweep, row, 0, extra)) for row in chosen}
    found = {run: look(run.folder(paths.runs)) for run in planned(sweep, extra, only)}
    left = sum(not run.finished for run in found.values())
    everyone = forecast.past(paths.runs)
    known = [run for run in everyone if run.sweep == name]
    others = [run for run in everyone if run.sweep != name]
    jobs = jobs or jobs_at_a_time(cfg.trainer for cfg in configs.values())
    counted = dict(zip(configs, count(list(configs.values())), strict=True)) if count else {}
    costs = {run.row: run.record for run in known} | counted
    lines = [
        f"{name}: {sweep.question}",
        f"{len(chosen)} rows, {len(found)} runs ({sweep.seeds.baseline} seeds of the baseline, "
        f"{sweep.seeds.rows} of each other row): {len(found) - left} done, {left} to run",
        f"every run: {' '.join(merge(sweep.base, extra)) or 'the baseline as it stands'}",
        "",
        *_table(sweep, found, configs, costs),
        "",
        *_operations(found, configs, counted),
        f"time: {_time(left, jobs, known, others, configs[chosen[0]])}",
        f"detects: {_detects(sweep, known, others)}",
    ]
    return "\n".join(lines)


def _config(name: str, row: str, given: Sequence[str]) -> Any:
    try:
        return compose(given)
    except UserError as error:
        raise error.of(name, row) from None


def _table(
    sweep: Sweep, found: dict[PlannedRun, RunStatus], configs: dict[str, Any], costs: dict[str, dict[str, Any]]
) -> list[str]:
    cells = [("row", "done", "parameters", "operations", "changes")]
    for row, cfg in configs.items():
        mine = [stands for run, stands in found.items() if run.row == row]
        record = costs.get(row, {})
        cells.append(
            (
                row,
                f"{sum(stands.finished for stands in mine)}/{len(mine)}",
                _number((record.get("parameters") or {}).get("total"), ",d"),
                _number(record.get("ops_paper"), ".3g"),
                " ".join(sweep.rows[row]) + _width(cfg) or "the baseline",
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return [
        "  ".join([line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in (1, 2, 3)), line[4]]).rstrip()
        for line in cells
    ]


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, (int, float)) else "-"


def _width(cfg: Any) -> str:
    """How wide a gated feed-forward is made so that it costs what the others do."""
    if "gated_ratio" not in cfg.feedforward or not declares(OmegaConf.to_container(cfg.activation), "gated"):
        return ""
    return f" (feedforward.gated_ratio {cfg.feedforward.gated_ratio} of d_ff {cfg.feedforward.d_ff})"


def _operations(
    found: dict[PlannedRun, RunStatus], configs: dict[str, Any], counted: dict[str, dict[str, Any]]
) -> list[str]:
    """What is left to run, in operations, and how long one large device would take over them."""
    if not counted:
        return []
    total = sum(
        counted[run.row]["flops_per_step"] * configs[run.row].trainer.steps
        for run, stands in found.items()
        if not stands.finished
    )
    alone = duration(total / SUSTAINED)
    return [f"cost: {total:.3g} FLOPs, forward and backward: {alone} of a GPU that keeps up {SUSTAINED:.0e} a second"]


def _time(left: int, jobs: int, known: list[forecast.Past], others: list[forecast.Past], cfg: Any) -> str:
    if not left:
        return "nothing is left to run"
    seconds, source = forecast.seconds_of_a_run(known, others, cfg)
    if seconds is None:
        return source
    whole = seconds * math.ceil(left / jobs)
    return f"about {duration(whole)} with jobs={jobs}: {left} runs of about {duration(seconds)}, {source}"


def _detects(sweep: Any, known: list[forecast.Past], others: list[forecast.Past]) -> str:
    if sweep.seeds.rows < 3:
        return "nothing: below 3 seeds there is no verdict"
    sd, source = forecast.noise(known, others)
    if math.isnan(sd):
        return "unknown until two rows have two seeds each (or any other sweep has)"
    effect = forecast.detectable(sweep, sd)
    return (
        f"a difference of {effect:.3f} in the final loss, four times in five "
        f"(one run's noise is {sd:.4f}, from {source}; level 5 %, Holm over the largest section)"
    )
