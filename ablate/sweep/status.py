"""How far a sweep has come, read from disk alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ablate.run.record import DIVERGED, DONE, FAILED, PREEMPTED, RUNNING
from ablate.run.status import INTERRUPTED, MISSING, STATES, RunStatus, heartbeat, look
from ablate.study import definition, runs
from ablate.study.paths import Paths
from ablate.text import aligned


def describe(name: str, overrides: Sequence[str] = ()) -> str:
    """A table of the states of all runs of a sweep, and a line for each that failed or diverged."""
    paths = Paths.only(overrides)
    sweep = definition.load(name, paths.sweeps)
    found = {run: look(run.folder(paths.runs)) for run in runs.planned(sweep)}
    seeds = range(max(sweep.seeds_of(row) for row in sweep.rows))
    cells = {(run.row, run.seed): _cell(status) for run, status in found.items()}
    table = [["", *(f"seed {seed}" for seed in seeds)]]
    table += [[row, *(cells.get((row, seed), "") for seed in seeds)] for row in sweep.rows]
    lines = [f"{sweep.name}: {_counts(list(found.values()))}", ""]
    lines += aligned(table, right=range(1, len(table[0])), gap=" ")
    without_result = {run: status for run, status in found.items() if status.state in (FAILED, DIVERGED)}
    lines += [""] if without_result else []
    for run, status in without_result.items():
        lines.append(f"{run.row}, seed {run.seed}: {status.state}: {status.reason or 'no reason known'}")
    return "\n".join(lines)


def _counts(found: list[RunStatus]) -> str:
    counts = Counter(item.state for item in found)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{len(found)} runs: {', '.join(parts)}"


def _cell(item: RunStatus) -> str:
    if item.state == DONE and item.record:
        return f"{item.record.final_loss:.3f}"
    if item.state == MISSING:
        return "-"
    if item.state in (RUNNING, INTERRUPTED, PREEMPTED) and (beat := heartbeat(item.folder)):
        return f"{item.state} {beat['step']}/{beat['steps']}"
    return item.state
