"""What a sweep would do, before the hours are spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ablate.config import identity, merge, restored, roundings
from ablate.config.overrides import key_of
from ablate.config.slots import declares
from ablate.duration import duration
from ablate.errors import UserError
from ablate.run import match
from ablate.run.record import DONE, Record
from ablate.run.status import RunStatus
from ablate.study import measured, standing
from ablate.study.definition import Seeds, Sweep, load
from ablate.study.membership import DIFFERENT, Membership
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun, overrides, planned, with_rungs
from ablate.study.settled import Settled
from ablate.sweep import budgeting, estimates
from ablate.sweep.outlook import Config, Outlook
from ablate.sweep.preflight import REMEDY
from ablate.sweep.session import Options
from ablate.sweep.stored_runs import StoredRuns
from ablate.text import aligned

if TYPE_CHECKING:
    from ablate.sweep.trials import Trials

Count = Callable[[Sequence[Any]], Iterable[dict[str, Any] | UserError]]

BROUGHT_ALONG = ("optimizer", "schedule", "init", "position")  # what moves losses beside the change that it is for
SUSTAINED = 4e14  # FLOPs a second: what a well-kept H100 makes of its 9.9e14 in bfloat16


def describe(
    name: str,
    extra: Sequence[str] = (),
    *,
    jobs: int | None = None,
    jobs_per_device: int | None = None,
    only: str | Iterable[str] | None = None,
    count: Count | None = None,
    trials: Mapping[str, Trials] | None = None,
    refused: Mapping[str, Mapping[str, str]] | None = None,
    budget: float | None = None,
) -> str:
    """What the sweep would run, how long that takes, what it could detect; raises `UserError` for a row in error.

    Of a sweep with contexts or rungs that is said of each, and then of all together.

    `count` says what configurations cost (`ablate.cli.counting.costs`) and so builds each, which finds parts that do
    not fit together; without it, in a quarter of a second, costs are those that finished runs have counted. `trials`
    are measured steps, by the name of the part; without them the time is judged by runs that are there. `refused` says
    by the same name which rows could not be built, where that was tried. `budget` is the seconds that all may take:
    seeds are taken away for that, else it is refused.
    """
    at_a_time = Options(jobs=jobs, jobs_per_device=jobs_per_device)
    found = outlooks(name, extra, at_a_time, only, trials, refused=refused)
    lines = []
    if budget is not None:
        taken = budgeting.fitted(name, found, budget)
        if taken is None:
            lines = [f"{name}: budget: how long a run takes is not known; ablate plan {name} --measure budget=..."]
        else:
            lines = [f"{name}: {budgeting.said(taken)}"]
            found = outlooks(name, extra, at_a_time, only, trials, taken.left, refused)
    plans = [_plan(outlook, extra, count) for outlook in found]
    texts = [plan.text for plan in plans] + ([_together(name, plans)] if len(plans) > 1 else [])
    return "\n\n".join([*lines, *texts])


def outlooks(
    name: str,
    extra: Sequence[str],
    at_a_time: Options,
    only: str | Iterable[str] | None,
    trials: Mapping[str, Trials] | None = None,
    seeds: Seeds | None = None,
    refused: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Outlook]:
    """How all parts of a sweep stand, its tables and their rungs; with `seeds` in place of those of its file."""
    paths = Paths.of(extra)
    sweep = load(name, paths.sweeps)
    if seeds:
        sweep = replace(sweep, seeds=seeds)
    tables = [
        standing.leave_out(table, refused[table.name])
        if refused and table.name in refused
        else standing.standing(table, paths.runs, extra)
        for table in standing.tables(sweep, extra)
    ]
    parts = [part for table in with_rungs(tables, only) for part in table]
    return [
        Outlook(part, extra, at_a_time, None if part.rung else only, (trials or {}).get(part.name)) for part in parts
    ]


@dataclass(frozen=True)
class _Plan:
    """The text on one part of a sweep; how many runs it has, how many are left, and their seconds, NaN if unknown."""

    text: str
    runs: int
    left: int
    seconds: float


def _together(name: str, plans: Sequence[_Plan]) -> str:
    runs, left = sum(plan.runs for plan in plans), sum(plan.left for plan in plans)
    seconds = sum(plan.seconds for plan in plans)
    time = "" if not left else ", time not known" if math.isnan(seconds) else f", about {duration(seconds)}"
    return f"{name}: {len(plans)} tables and rungs, {runs} runs: {runs - left} done, {left} to run{time}"


def _plan(outlook: Outlook, extra: Sequence[str], count: Count | None) -> _Plan:
    counted: dict[str, dict[str, Any]] = {}
    if count:
        sweep, counted = _counted(outlook.sweep, outlook.configs, count)
        outlook = outlook.of(sweep)
    sweep, name, found, configs = outlook.sweep, outlook.sweep.name, outlook.found, outlook.configs
    left, known, trials = outlook.left().total(), outlook.known, outlook.trials
    costs: dict[str, tuple[float | None, float | None]]
    costs = {record.row: (_parameters(record), record.ops_paper) for record in known}
    costs |= {row: (cost["parameters"]["total"], cost["ops_paper"]) for row, cost in counted.items()}
    done = f"{len(found) - left} done{outlook.stored.count(found.values())}"
    seconds, time = outlook.time()
    lines = [
        f"{name}: {sweep.question}",
        f"{_asked(sweep, outlook.chosen)}, {len(found)} runs{_seeds(sweep)}: {done}, {left} to run",
        *outlook.stored.problems(),
        *standing.lines(sweep),
        f"every run: {' '.join(merge(sweep.base, extra)) or 'the baseline as it is'}",
        *measured.lines(found.values(), outlook.membership.config),
        *([outlook.settled.mixed] if outlook.settled.mixed else _differences(name, found)),
        *_copies(name, configs),
        *_rounded(sweep, extra, outlook.chosen),
        *_without_control(sweep, [row for row in outlook.chosen if row != sweep.baseline]),
        *(f"not measured: {row}: {reason}" for row, reason in (trials.failed if trials else {}).items()),
        "",
        *_table(sweep, found, configs, costs),
        "",
        *_operations(found, configs, counted),
        f"time: {time}",
        *([f"detects: {_detects(sweep, known, _at_rungs(sweep, extra, outlook.paths))}"] if sweep.rung is None else []),
    ]
    return _Plan("\n".join(lines), len(found), left, seconds)


def _counted(sweep: Sweep, configs: Mapping[str, Config], count: Count) -> tuple[Sweep, dict[str, dict[str, Any]]]:
    """What each row costs; and the sweep without those that cannot be built, where they may be left out.

    Raises `UserError` with a line for each of the others.
    """
    found = dict(zip(configs, count([*map(restored, configs.values())]), strict=True))
    errors = {row: cost for row, cost in found.items() if isinstance(cost, UserError)}
    needed = [row for row in errors if row == sweep.baseline or not standing.can_refuse(sweep)]
    if needed:
        raise UserError("\n".join(str(errors[row].of(sweep.name, row)) for row in needed))
    sweep = standing.leave_out(sweep, {row: "; ".join(str(error).splitlines()) for row, error in errors.items()})
    return sweep, {row: cost for row, cost in found.items() if not isinstance(cost, UserError)}


def _without_control(sweep: Sweep, rows: Sequence[str]) -> list[str]:
    """A line for each row that brings more than its change, and is compared with no row that has the rest alone."""
    lines = []
    for row in rows:
        groups = {key_of(override).partition(".")[0]: override for override in sweep.rows[row]}
        brought = [override for group, override in groups.items() if group in BROUGHT_ALONG]
        if brought and len(groups) > len(brought) and row not in sweep.against:
            control = "a row that has it alone" if len(brought) == 1 else "a row that has these alone"
            lines.append(
                f"{sweep.name}: {row!r} brings {' and '.join(brought)} along, and has no control: against: {control} "
                "would tell the two apart"
            )
    return lines


def _asked(sweep: Sweep, chosen: Sequence[str]) -> str:
    if sweep.rung is None:
        return f"{len(chosen)} rows"
    return f"the baseline with {sweep.rung:g} times the steps"


def _seeds(sweep: Sweep) -> str:
    if sweep.rung is not None:
        return ""
    return f" ({sweep.seeds.baseline} seeds of the baseline, {sweep.seeds.rows} of each other row)"


def _copies(name: str, configs: dict[str, Config]) -> list[str]:
    """A line for each row that is an earlier one in other words; a report keeps such rows out of the noise."""
    first: dict[str, str] = {}
    originals = {row: first.setdefault(identity(config, ""), row) for row, config in configs.items()}
    return [
        f"{name}: {row!r} is {original!r} in other words: its runs would be the same runs"
        for row, original in originals.items()
        if row != original
    ]


def _rounded(sweep: Sweep, extra: Sequence[str], rows: Sequence[str]) -> list[str]:
    """A line for each row with a preset whose published numbers its shape lets it have only about."""
    found = {row: roundings(overrides(sweep, row, 0, extra)) for row in rows}
    return [f"{sweep.name}: {row!r}: {'; '.join(lines)}" for row, lines in found.items() if lines]


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


def _at_rungs(sweep: Sweep, extra: Sequence[str], paths: Paths) -> dict[float, list[Record]]:
    """The finished runs of the baseline at each rung."""
    found = {}
    for rung in sweep.at_rungs():
        membership = Membership(rung, extra, Settled(rung, paths, extra))
        stored = StoredRuns(membership, paths)
        statuses = [membership.judged(stored.look(run)) for run in planned(rung, extra)]
        found[rung.rung or 1.0] = [one.record for one in statuses if one.state == DONE and one.record]
    return found


def _detects(sweep: Sweep, known: Sequence[Record], rungs: Mapping[float, Sequence[Record]]) -> str:
    if sweep.seeds.rows < 3:
        return "nothing: below 3 seeds there is no verdict"
    sd = estimates.noise(known)
    if math.isnan(sd):
        return "not known: the noise is not measured until two rows have two seeds each"
    effect = estimates.detectable(sweep, sd)
    return (
        f"a difference of {effect:.3f} in the final loss{_worth(sweep, effect, known, rungs)}, four times in five "
        f"(one run's noise is {sd:.4f}, from this sweep; a false verdict in at most 5 % of such sweeps)"
    )


def _worth(sweep: Sweep, effect: float, known: Sequence[Record], rungs: Mapping[float, Sequence[Record]]) -> str:
    """What a difference is worth in tokens, as far as the baseline has run at the rungs; else empty."""
    gain = estimates.worth(effect, {1.0: [one for one in known if one.row == sweep.baseline], **rungs})
    if math.isnan(gain):
        return ""
    return ", worth more tokens than its rungs have" if math.isinf(gain) else f", worth {gain:.3g} times the tokens"
