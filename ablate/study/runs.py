"""From a sweep to its runs, in the order in which they are worth most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from ablate.config.composing import resolve, written
from ablate.config.overrides import key_of, merge
from ablate.errors import UserError, nearest
from ablate.run.folder import run_path
from ablate.study.definition import Sweep
from ablate.study.rows import GIVEN_BY_THE_SWEEP
from ablate.study.scale import STEPS


@dataclass(frozen=True)
class PlannedRun:
    """One run that a sweep asks for: what `ablate train` is given."""

    sweep: str
    row: str
    seed: int
    overrides: tuple[str, ...]

    def folder(self, runs: Path | str) -> Path:
        """Where it is kept below the folder `runs`."""
        return run_path(runs, self.sweep, self.row, self.seed)


def overrides(sweep: Sweep, row: str, seed: int, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Everything that one run is given: base, then `extra`, then the row; what comes later replaces its key.

    The row wins over `extra`, because a row that was overruled would no longer be what its label says.
    """
    if row not in sweep.rows:
        raise UserError(f"no row {row!r} in {sweep.name}{nearest(row, sweep.rows)}")
    for override in extra:
        if key_of(override) in GIVEN_BY_THE_SWEEP:
            raise UserError(f"{override}: {key_of(override)} is given by the sweep file, run by run")
    given = [f"sweep={sweep.name}", f"row='{row}'", f"seed.base={seed}"]
    return (*settings(sweep, row, extra), *given)


def settings(sweep: Sweep, row: str, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """What makes a run of a row what it is: `overrides` without those that only say which run it is.

    At a rung the steps are the factor times those that the row has otherwise.
    """
    early = [f"early_fraction={sweep.early_fraction:g}"] if sweep.early_fraction is not None else []
    merged = merge(sweep.base, early, extra, sweep.rows[row])
    if sweep.rung is not None:
        merged = merge(merged, [f"{STEPS}={max(1, round(sweep.rung * _steps(tuple(merged))))}"])
    return tuple(merged)


@cache
def _steps(texts: tuple[str, ...]) -> int:
    """How many steps a run with these overrides trains for."""
    return int(resolve(written(texts))["trainer"]["steps"])


def select(sweep: Sweep, only: str | Iterable[str] | None) -> list[str]:
    """The rows that `only` (a label, a glob, or several, separated by commas) names; all rows without it.

    None where it names only rows that are left out.
    """
    if not only:
        return list(sweep.rows)
    return [row for row in named_by(only, [*sweep.rows, *sweep.refused], sweep.name) if row in sweep.rows]


def with_rungs(tables: Iterable[Sweep], only: str | Iterable[str] | None) -> list[list[Sweep]]:
    """Each of the tables that has a row that `only` names, and its baseline at the rungs where it is one of them."""
    chosen = [(table, select(table, only)) for table in tables]
    return [[table, *(table.at_rungs() if table.baseline in rows else ())] for table, rows in chosen if rows]


def named_by(only: str | Iterable[str], rows: Sequence[str], sweep: str) -> list[str]:
    """Those of the labels `rows` that `only` names; raises `UserError` for a name that fits none."""
    patterns = [only] if isinstance(only, str) and only in rows else only
    if isinstance(patterns, str):
        patterns = [pattern.strip() for pattern in patterns.split(",")]
    chosen = set()
    for pattern in patterns:
        matches = {row for row in rows if row == pattern or fnmatchcase(row, pattern)}
        if not matches:
            raise UserError(f"only: no row {pattern!r} in {sweep}{nearest(pattern, rows)}")
        chosen |= matches
    return [row for row in rows if row in chosen]


def planned(sweep: Sweep, extra: Sequence[str] = (), only: str | Iterable[str] | None = None) -> list[PlannedRun]:
    """Every run of the sweep: seed 0 of all rows, baseline first, then seed 1, ...

    A sweep that stops half-way is so already a usable report; the baseline's extra seeds come last.
    """
    rows = select(sweep, only)
    seeds = range(max(sweep.seeds_of(row) for row in rows))
    return [
        PlannedRun(sweep.name, row, seed, overrides(sweep, row, seed, extra))
        for seed in seeds
        for row in rows
        if seed < sweep.seeds_of(row)
    ]
