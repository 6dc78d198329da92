"""What a sweep would do, before the hours are spent."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ablate.config import identity, merge, restored
from ablate.config.root import Trainer
from ablate.config.slots import declares
from ablate.duration import duration
from ablate.errors import UserError
from ablate.run import match
from ablate.run.record import DONE, Record
from ablate.run.status import RunStatus
from ablate.study import measured
from ablate.study.definition import Sweep, load
from ablate.study.membership import DIFFERENT, Membership
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun, planned, select
from ablate.study.settled import Settled
from ablate.sweep import forecast, timing
from ablate.sweep.devices import jobs_at_a_time
from ablate.sweep.forecast import Seconds
from ablate.sweep.preflight import REMEDY
from ablate.sweep.stored_runs import StoredRuns
from ablate.text import aligned, plural

if TYPE_CHECKING:
    from ablate.sweep.trials import Trials

Config = dict[str, Any]  # resolved

SUSTAINED = 4e14  # FLOPs a second: what a well-kept H100 makes of its 9.9e14 in bfloat16


def describe(
    name: str,
    extra: Sequence[str] = (),
    *,
    jobs: int | None = None,
    only: str | Iterable[str] | None = None,
    count: Callable[[Sequence[Any]], Iterable[dict[str, Any]]] | None = None,
    trials: Trials | None = None,
) -> str:
    """What the sweep would run, how long that takes, what it could detect; raises `UserError` for a row in error.

    `count` says what configurations cost (`ablate.cli.counting.costs`) and so builds each, which finds parts that do
    not fit together; without it, in a quarter of a second, costs are those that finished runs have counted. `trials`
    are measured steps; without them the time is judged by runs that are there.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"jobs={jobs}: must be at least 1")
    paths = Paths.of(extra)
    sweep = load(name, paths.sweeps)
    chosen = select(sweep, only)
    settled = Settled(sweep, paths, extra, jobs=jobs)
    membership = Membership(sweep, extra, settled)
    configs = _configs(membership, chosen)
    stored = StoredRuns(membership, paths)
    found = {run: membership.judged(stored.look(run)) for run in planned(sweep, extra, only)}
    left = Counter(run.row for run, status in found.items() if not status.finished)
    known = [status.record for status in found.values() if status.state == DONE and status.record]
    jobs = jobs or jobs_at_a_time(Trainer(**config["trainer"]) for config in configs.values())
    counted = dict(zip(configs, count([*map(restored, configs.values())]), strict=True)) if count else {}
    costs: dict[str, tuple[float | None, float | None]]
    costs = {record.row: (_parameters(record), record.ops_paper) for record in known}
    costs |= {row: (cost["parameters"]["total"], cost["ops_paper"]) for row, cost in counted.items()}
    done = f"{len(found) - left.total()} done{stored.count(found.values())}"
    lines = [
        f"{name}: {sweep.question}",
        (
            f"{len(chosen)} rows, {len(found)} runs ({sweep.seeds.baseline} seeds of the baseline, "
            f"{sweep.seeds.rows} of each other row): {done}, {left.total()} to run"
        ),
        *stored.problems(),
        f"every run: {' '.join(merge(sweep.base, extra)) or 'the baseline as it is'}",
        *measured.lines(found.values(), membership.config),
        *([settled.mixed] if settled.mixed else _differences(name, found)),
        *_copies(name, configs),
        *(f"not measured: {row}: {reason}" for row, reason in (trials.failed if trials else {}).items()),
        "",
        *_table(sweep, found, configs, costs),
        "",
        *_operations(found, configs, counted),
        f"time: {_time(name, left, jobs, _seconds(name, paths, configs, known, trials), trials)}",
        f"detects: {_detects(sweep, known)}",
    ]
    return "\n".join(lines)


def _configs(membership: Membership, rows: Sequence[str]) -> dict[str, Config]:
    """The config of each row's first seed; raises `UserError` for each row that has none."""
    configs: dict[str, Config] = {}
    for row in rows:
        try:
            configs[row] = membership.config(row, 0)
        except UserError as error:
            raise error.of(membership.sweep.name, row) from None
    return configs


def _copies(name: str, configs: dict[str, Config]) -> list[str]:
    """A line for each row that is an earlier one in other words; a report keeps such rows out of the noise."""
    first: dict[str, str] = {}
    originals = {row: first.setdefault(identity(config, ""), row) for row, config in configs.items()}
    return [
        f"{name}: {row!r} is {original!r} in other words: its runs would be the same runs"
        for row, original in originals.items()
        if row != original
    ]


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


def _seconds(
    name: str, paths: Paths, configs: dict[str, Config], known: Sequence[Record], trials: Trials | None
) -> Seconds:
    """How long the runs take: as measured, else as runs of this sweep did, else as those of others."""
    if trials and (measured := trials.seconds(configs)):
        return Seconds(measured, f"measured by a few steps of {plural(len(trials.rows), 'row')}")
    own = forecast.of_this_sweep(known, configs)
    return own if own.rows else forecast.of_other_sweeps(paths.runs, name, configs)


def _time(name: str, left: Counter[str], jobs: int, seconds: Seconds, trials: Trials | None) -> str:
    """How long the whole sweep takes: its runs, the timing pass and the report."""
    if not left:
        return "nothing is left to run"
    if not seconds.rows:
        return f"not measured; ablate plan {name} --measure trains a few steps of each row"
    training = sum(seconds.rows[row] * runs for row, runs in left.items())
    longest = max(seconds.rows[row] for row in left)
    mean = training / left.total()
    runs = max(longest, training / jobs, mean * math.ceil(left.total() / jobs))
    start = statistics.mean(trial.start for trial in trials.rows.values()) if trials and trials.rows else timing.START
    timed = timing.forecast(sum(seconds.rows.values()), len(seconds.rows), start)
    report = forecast.report(left.total())
    parts = f"{left.total()} runs of about {duration(mean)}, timing pass {duration(timed)}, report {duration(report)}"
    return f"about {duration(runs + timed + report)} with jobs={jobs}: {parts}; {seconds.source}"


def _detects(sweep: Sweep, known: Sequence[Record]) -> str:
    if sweep.seeds.rows < 3:
        return "nothing: below 3 seeds there is no verdict"
    sd = forecast.noise(known)
    if math.isnan(sd):
        return "not known: the noise is not measured until two rows have two seeds each"
    effect = forecast.detectable(sweep, sd)
    return (
        f"a difference of {effect:.3f} in the final loss, four times in five "
        f"(one run's noise is {sd:.4f}, from this sweep; a false verdict in at most 5 % of such sweeps)"
    )
