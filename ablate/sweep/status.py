"""How far a sweep has come, read from disk alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ablate.sweep import ledger, plan
from ablate.sweep.paths import Paths


def describe(name: str, overrides: Sequence[str] = ()) -> str:
    """A table of the states of all runs of a sweep, and a line for each that failed or diverged."""
    paths = Paths.only(overrides)
    sweep = plan.load(name, paths.sweeps)
    found = [ledger.look(sweep, run, paths.runs) for run in plan.runs(sweep)]
    width = max(len(row) for row in sweep.rows)
    seeds = range(max(sweep.seeds_of(row) for row in sweep.rows))
    cells = {(item.run.row, item.run.seed): _cell(item) for item in found}
    columns = [max(len(cells.get((row, seed), "")) for row in sweep.rows) for seed in seeds]
    columns = [max(size, len(f"seed {seed}")) for size, seed in zip(columns, seeds, strict=True)]
    lines = [f"{sweep.name}: {_counts(found)}", ""]
    lines.append(" ".join(["".ljust(width), *(f"seed {seed}".rjust(columns[seed]) for seed in seeds)]).rstrip())
    for row in sweep.rows:
        shown = [cells.get((row, seed), "").rjust(columns[seed]) for seed in seeds]
        lines.append(" ".join([row.ljust(width), *shown]).rstrip())
    told = [item for item in found if item.state in (ledger.FAILED, ledger.DIVERGED)]
    lines += [""] if told else []
    for item in told:
        lines.append(f"{item.run.row}, seed {item.run.seed}: {item.state}: {item.reason or 'no reason known'}")
    return "\n".join(lines)


def _counts(found: list[ledger.Found]) -> str:
    counts = Counter(item.state for item in found)
    told = ", ".join(f"{counts[state]} {state}" for state in ledger.STATES if counts[state])
    return f"{len(found)} runs: {told}"


def _cell(item: ledger.Found) -> str:
    if item.state == ledger.DONE:
        final = (item.record.get("loss") or {}).get("final")
        return f"{final:.3f}" if isinstance(final, (int, float)) else ledger.DONE
    if item.state == ledger.MISSING:
        return "-"
    if item.state in (ledger.RUNNING, ledger.DEAD, ledger.PREEMPTED) and (beat := ledger.heartbeat(item.folder)):
        return f"{item.state} {beat['step']}/{beat['steps']}"
    return item.state
