"""How far a sweep has come, read from disk alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ablate.run.record import DIVERGED, DONE, FAILED, PREEMPTED, RUNNING
from ablate.run.status import INTERRUPTED, MISSING, STATES, RunStatus, heartbeat, look
from ablate.study import definition, runs
from ablate.study.paths import Paths


def describe(name: str, overrides: Sequence[str] = ()) -> str:
    """A table of the states of all runs of a sweep, and a line for each that failed or diverged."""
    paths = Paths.only(overrides)
    sweep = definition.load(name, paths.sweeps)
    found = {run: look(run.folder(paths.runs)) for run in runs.planned(sweep)}
    width = max(len(row) for row in sweep.rows)
    seeds = range(max(sweep.seeds_of(row) for row in sweep.rows))
    cells = {(run.row, run.seed): _cell(stands) for run, stands in found.items()}
    columns = [max(len(cells.get((row, seed), "")) for row in sweep.rows) for seed in seeds]
    columns = [max(size, len(f"seed {seed}")) for size, seed in zip(columns, seeds, strict=True)]
    lines = [f"{sweep.name}: {_counts(list(found.values()))}", ""]
    lines.append(" ".join(["".ljust(width), *(f"seed {seed}".rjust(columns[seed]) for seed in seeds)]).rstrip())
    for row in sweep.rows:
        shown = [cells.get((row, seed), "").rjust(columns[seed]) for seed in seeds]
        lines.append(" ".join([row.ljust(width), *shown]).rstrip())
    without_result = {run: stands for run, stands in found.items() if stands.state in (FAILED, DIVERGED)}
    lines += [""] if without_result else []
    for run, stands in without_result.items():
        lines.append(f"{run.row}, seed {run.seed}: {stands.state}: {stands.reason or 'no reason known'}")
    return "\n".join(lines)


def _counts(found: list[RunStatus]) -> str:
    counts = Counter(item.state for item in found)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"{len(found)} runs: {', '.join(parts)}"


def _cell(item: RunStatus) -> str:
    if item.state == DONE:
        final = (item.record.get("loss") or {}).get("final")
        return f"{final:.3f}" if isinstance(final, (int, float)) else DONE
    if item.state == MISSING:
        return "-"
    if item.state in (RUNNING, INTERRUPTED, PREEMPTED) and (beat := heartbeat(item.folder)):
        return f"{item.state} {beat['step']}/{beat['steps']}"
    return item.state
