"""What a sweep would do, before the hours are spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.config import compose_resolved, merge, restored
from ablate.config.root import Trainer
from ablate.config.slots import declares
from ablate.duration import duration
from ablate.errors import UserError
from ablate.run import match
from ablate.run.record import Record
from ablate.run.status import RunStatus
from ablate.study.definition import Sweep, load
from ablate.study.membership import DIFFERENT, Membership
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun, overrides, planned, select
from ablate.sweep import forecast
from ablate.sweep.devices import jobs_at_a_time
from ablate.sweep.preflight import REMEDY
from ablate.sweep.stored_runs import StoredRuns
from ablate.text import aligned

Config = dict[str, Any]  # resolved

SUSTAINED = 4e14  # FLOPs a second: what a well-kept H100 makes of its 9.9e14 in bfloat16


def describe(
    name: str,
    extra: Sequence[str] = (),
    *,
    jobs: int | None = None,
    only: str | Iterable[str] | None = None,
    count: Callable[[Sequence[Any]], Iterable[dict[str, Any]]] | None = None,
) -> str:
    """What the sweep would run, how long that takes, what it could detect; raises `UserError` for a row in error.

    `count` says what configurations cost (`ablate.cli.counting.costs`) and so builds each, which finds parts that do
    not fit together; without it, in a quarter of a second, costs are those that finished runs have counted.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs={jobs}: must be at least 1")
    paths = Paths.of(extra)
    sweep = load(name, paths.sweeps)
    chosen = select(sweep, only)
    configs = {row: _config(name, row, overrides(sweep, row, 0, extra)) for row in chosen}
    membership = Membership(sweep, extra)
    stored = StoredRuns(membership, paths)
    found = {
        run: membership.judged(stored.look(run.row, run.seed, run.folder(paths.runs)))
        for run in planned(sweep, extra, only)
    }
    left = sum(not run.finished for run in found.values())
    different = {status.folder for status in found.values() if status.state == DIFFERENT}
    everyone = {path: record for path, record in forecast.finished_runs(paths.runs).items() if path not in different}
    known = {folder: record for folder, record in everyone.items() if record.sweep == name}
    others = {folder: record for folder, record in everyone.items() if record.sweep != name}
    jobs = jobs or jobs_at_a_time(Trainer(**config["trainer"]) for config in configs.values())
    counted = dict(zip(configs, count([*map(restored, configs.values())]), strict=True)) if count else {}
    costs: dict[str, tuple[float | None, float | None]]
    costs = {record.row: (_parameters(record), record.ops_paper) for record in known.values()}
    costs |= {row: (cost["parameters"]["total"], cost["ops_paper"]) for row, cost in counted.items()}
    lines = [
        f"{name}: {sweep.question}",
        (
            f"{len(chosen)} rows, {len(found)} runs ({sweep.seeds.baseline} seeds of the baseline, "
            f"{sweep.seeds.rows} of each other row): {len(found) - left} done{stored.count(found.values())}, {left} to run"
        ),
        *stored.problems(),
        f"every run: {' '.join(merge(sweep.base, extra)) or 'the baseline as it is'}",
        *_differences(name, found),
        "",
        *_table(sweep, found, configs, costs),
        "",
        *_operations(found, configs, counted),
        f"time: {_time(left, jobs, known, others, configs[chosen[0]])}",
        f"detects: {_detects(sweep, list(known.values()), list(others.values()))}",
    ]
    return "\n".join(lines)


def _config(name: str, row: str, given: Sequence[str]) -> Config:
    try:
        return compose_resolved(given)
    except UserError as error:
        raise error.of(name, row) from None


def _differences(name: str, found: dict[PlannedRun, RunStatus]) -> list[str]:
    """A line for each way in which runs on disk differ from what is planned: `ablate sweep` refuses them."""
    runs: dict[tuple[str, str], int] = Counter(
        (run.row, status.reason) for run, status in found.items() if status.state == DIFFERENT
    )
    return [match.refusal(f"{name}: {row!r}", changes, REMEDY, count) for (row, changes), count in runs.items()]


def _table(
    sweep: Sweep,
    found: dict[PlannedRun, RunStatus],
    configs: dict[str, Config],
    costs: dict[str, tuple[float | None, float | None]],
) -> list[str]:
    """A line a row; `costs` are (parameters, operations) by row."""
    cells = [("row", "done", "parameters", "operations", "changes")]
    for row, config in configs.items():
        mine = [status for run, status in found.items() if run.row == row]
        parameters, operations = costs.get(row, (None, None))
        cells.append(
            (
                row,
                f"{sum(status.finished for status in mine)}/{len(mine)}",
                _number(parameters, ",d"),
                _number(operations, ".3g"),
                " ".join(sweep.rows[row]) + _width(config) + _against(sweep, row) or "the baseline",
            )
        )
    return aligned(cells, right=(1, 2, 3))


def _parameters(record: Record) -> int | None:
    return record.parameters.total if record.parameters else None


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _against(sweep: Sweep, row: str) -> str:
    """The row that this one is compared with, where that is not the baseline."""
    return f" (against {sweep.against[row]})" if row in sweep.against else ""


def _width(config: Config) -> str:
    """How wide a gated feed-forward is made so that it costs what the others do."""
    feedforward = config["feedforward"]
    if "gated_ratio" not in feedforward or not declares(config["activation"], "gated"):
        return ""
    return f" (feedforward.gated_ratio {feedforward['gated_ratio']} of d_ff {feedforward['d_ff']})"


def _operations(
    found: dict[PlannedRun, RunStatus], configs: dict[str, Config], counted: dict[str, dict[str, Any]]
) -> list[str]:
    """What is left to run, in operations, and how long one large device would take over them."""
    if not counted:
        return []
    total = sum(
        counted[run.row]["flops_per_step"] * configs[run.row]["trainer"]["steps"]
        for run, status in found.items()
        if not status.finished
    )
    alone = duration(total / SUSTAINED)
    return [f"cost: {total:.3g} FLOPs, forward and backward: {alone} of a GPU that keeps up {SUSTAINED:.0e} a second"]


def _time(left: int, jobs: int, known: Mapping[Path, Record], others: Mapping[Path, Record], config: Config) -> str:
    if not left:
        return "nothing is left to run"
    seconds, source = forecast.seconds_of_a_run(known, others, config)
    if seconds is None:
        return source
    whole = seconds * math.ceil(left / jobs)
    return f"about {duration(whole)} with jobs={jobs}: {left} runs of about {duration(seconds)}, {source}"


def _detects(sweep: Sweep, known: Sequence[Record], others: Sequence[Record]) -> str:
    if sweep.seeds.rows < 3:
        return "nothing: below 3 seeds there is no verdict"
    sd, source = forecast.noise(known, others)
    if math.isnan(sd):
        return "unknown until two rows have two seeds each (or any other sweep has)"
    effect = forecast.detectable(sweep, sd)
    return (
        f"a difference of {effect:.3f} in the final loss, four times in five "
        f"(one run's noise is {sd:.4f}, from {source}; a false verdict in at most 5 % of such sweeps)"
    )
