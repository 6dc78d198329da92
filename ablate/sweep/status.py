"""How far a sweep has come, read from disk alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ablate.run.folder import run_folders, seed_of
from ablate.run.record import DIVERGED, DONE, FAILED, PREEMPTED, RUNNING
from ablate.run.status import INTERRUPTED, MISSING, STATES, RunStatus, heartbeat, look
from ablate.study import definition, inheritance, measured, runs, standing
from ablate.study.definition import Sweep
from ablate.study.membership import DIFFERENT, Membership
from ablate.study.paths import Paths
from ablate.study.settled import Settled
from ablate.sweep.stored_runs import StoredRuns
from ablate.text import aligned


def describe(name: str, overrides: Sequence[str] = ()) -> str:
    """A table of the states of all runs of a sweep, and a line for each that failed, diverged or does not belong.

    Of a sweep with contexts or rungs there is one for each, and a line for all together.

    A sweep without a file has the runs that there are. Raises `UserError` where there is neither.
    """
    paths = Paths.only(overrides)
    if inheritance.find(name, paths.sweeps) is None and (folders := [*run_folders(paths.runs, name)]):
        return _text(name, _of_folders(folders), None)
    texts: list[str] = []
    statuses: list[RunStatus] = []
    parts = [standing.standing(part, paths.runs) for part in definition.load(name, paths.sweeps).parts]
    for part in parts:
        stored = StoredRuns(Membership(part, settled=Settled(part, paths)), paths)
        found = _of_sweep(part, stored)
        texts.append(_text(part.name, found, stored))
        statuses += found.values()
    if len(parts) > 1:
        texts.append(f"{name}: {len(parts)} tables and rungs, {_counts(statuses)}")
    return "\n\n".join(texts)


def _text(name: str, found: dict[tuple[str, int], RunStatus], stored: StoredRuns | None) -> str:
    rows = [*dict.fromkeys(row for row, _ in found)]
    seeds = sorted({seed for _, seed in found})
    cells = {run: _cell(status) for run, status in found.items()}
    table = [["", *(f"seed {seed}" for seed in seeds)]]
    table += [[row, *(cells.get((row, seed), "") for seed in seeds)] for row in rows]
    kept = stored.count(found.values()) if stored else ""
    lines = [f"{name}: {_counts(list(found.values()))}{kept}", *(stored.problems() if stored else ())]
    if stored:
        lines += standing.lines(stored.membership.sweep)
        lines += [line for line in (stored.membership.settled.mixed,) if line]
        lines += measured.lines(found.values(), stored.membership.config)
    lines += [""]
    lines += aligned(table, right=range(1, len(table[0])), gap=" ")
    without_result = {run: status for run, status in found.items() if status.state in (FAILED, DIVERGED, DIFFERENT)}
    lines += [""] if without_result else []
    for (row, seed), status in without_result.items():
        lines.append(f"{row}, seed {seed}: {status.state}: {status.reason or 'no reason known'}")
    return "\n".join(lines)


def _of_sweep(sweep: Sweep, stored: StoredRuns) -> dict[tuple[str, int], RunStatus]:
    """Every planned run as the sweep would find it, in the order of the rows."""
    planned = runs.planned(sweep)
    found = {(run.row, run.seed): stored.look(run) for run in planned}
    order = {row: number for number, row in enumerate(sweep.rows)}
    return {run: stored.membership.judged(found[run]) for run in sorted(found, key=lambda run: (order[run[0]], run[1]))}


def _of_folders(folders: Sequence[Path]) -> dict[tuple[str, int], RunStatus]:
    """Every run that has a folder, by the label of its record or, without one, the name of its folder."""
    found = {}
    for folder in folders:
        status = look(folder)
        label = status.record.row if status.record else folder.parent.name
        found[label, seed_of(folder) or 0] = status
    return found


def _counts(found: list[RunStatus]) -> str:
    counts = Counter(item.state for item in found)
    parts = [f"{counts[state]} {state}" for state in (*STATES, DIFFERENT) if counts[state]]
    return f"{len(found)} runs: {', '.join(parts)}"


def _cell(item: RunStatus) -> str:
    if item.state == DONE and item.record:
        return f"{item.record.final_loss:.3f}"
    if item.state == MISSING:
        return "-"
    if item.state in (RUNNING, INTERRUPTED, PREEMPTED) and (beat := heartbeat(item.folder)):
        return f"{item.state} {beat['step']}/{beat['steps']}"
    return item.state
