"""A sweep file, read and checked: the question, the baseline, the rows, the number of seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import UserError, nearest
from ablate.naming import check_sweep_name
from ablate.study import published
from ablate.study.expectations import Expectation
from ablate.study.inheritance import extended, find, names, read
from ablate.study.rows import overrides_of, rows_of

MOST_SEEDS, MOST_RUNS = 1_000, 100_000  # above any study; below what no disk has folders for


@dataclass(frozen=True)
class Seeds:
    """How many seeds each kind of row is trained with: 0, 1, ..."""

    baseline: int = 5
    rows: int = 5


@dataclass(frozen=True)
class Sweep:
    """A question and the rows that answer it; `rows` begins with the baseline and has every label once.

    `against` maps each row that is not compared with the baseline to the one that it is compared with; the rows
    `uncounted` are not among the changes that the sweep asks about. `expected` says of some rows what a source expects
    of them. Differences smaller than `same_within`, in nats a token, do not matter to the sweep.
    """

    name: str
    path: Path
    text: str
    question: str
    base: tuple[str, ...]
    baseline: str
    rows: dict[str, tuple[str, ...]]
    sections: dict[str, str]
    reference: str | None
    seeds: Seeds
    early_fraction: float | None
    notes: str
    against: dict[str, str]
    uncounted: frozenset[str]
    expected: dict[str, Expectation]
    same_within: float | None

    def seeds_of(self, row: str) -> int:
        """The number of seeds that `row` is trained with."""
        return self.seeds.baseline if row == self.baseline else self.seeds.rows


def load(name: str, folder: str | Path = "sweeps") -> Sweep:
    """Read the sweep `name` of `folder`, else of the package; raises `UserError` for whatever is wrong in it."""
    check_sweep_name(name)
    path = find(name, folder)
    if path is None:
        there = names(folder)
        raise UserError(f"no sweep {name!r} in {folder}{nearest(name, there)} (there are: {', '.join(there)})")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    return parse(name, text, path)


def parse(name: str, text: str, path: Path) -> Sweep:
    """The sweep that `text`, the content of `path`, describes; raises `UserError`."""
    content = extended(read(text, path), path)
    question = _text(content, "question", path)
    if not question:
        raise UserError(f"{path}: question is missing; say in a sentence what the sweep asks")
    if (protocol := content.get("protocol", "fixed")) != "fixed":
        tail = "is not there yet; use fixed" if protocol == "tuned" else "is unknown; use fixed"
        raise UserError(f"{path}: protocol {protocol!r} {tail}")
    base = overrides_of(content.get("base", []), "base", path)
    baseline = _text(content, "baseline", path)
    found = rows_of(content, baseline, base, path)
    baseline, rows = found.baseline, found.overrides
    seeds = _seeds(content.get("seeds", {}), path)
    if (runs := seeds.baseline + (len(rows) - 1) * seeds.rows) > MOST_RUNS:
        raise UserError(
            f"{path}: {len(rows):,} rows with their seeds are {runs:,} runs; at most {MOST_RUNS:,} are planned"
        )
    return Sweep(
        name=name,
        path=path,
        text=text,
        question=question,
        base=base,
        baseline=baseline,
        rows={baseline: rows[baseline]} | rows,
        sections=found.sections,
        reference=_reference(content.get("reference"), path),
        seeds=seeds,
        early_fraction=_early_fraction(content.get("early_fraction"), path),
        notes=_text(content, "notes", path),
        against=found.against,
        uncounted=found.uncounted,
        expected=found.expected,
        same_within=_same_within(content.get("same_within"), path),
    )


def _text(content: dict[str, Any], key: str, path: Path) -> str:
    value = content.get(key, "") or ""
    if not isinstance(value, str):
        raise UserError(f"{path}: {key} must be text, and is {value!r}")
    return value.strip()


def _reference(value: Any, path: Path) -> str | None:
    if value is None:
        return None
    try:
        return published.path_of(value).stem
    except UserError as error:
        raise error.of(str(path)) from None


def _seeds(value: Any, path: Path) -> Seeds:
    known = ("baseline", "rows")
    if not isinstance(value, dict):
        raise UserError(f"{path}: seeds must be such as {{baseline: 5, rows: 3}}, and is {value!r}")
    for key, number in value.items():
        if key not in known:
            raise UserError(f"{path}: seeds: unknown key {key!r}{nearest(key, known)}")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UserError(f"{path}: seeds: {key} must be a whole number of at least 1, and is {number!r}")
        if number > MOST_SEEDS:
            raise UserError(f"{path}: seeds: {key} must be at most {MOST_SEEDS:,}, and is {number}")
    seeds = Seeds(**value)
    if seeds.baseline < seeds.rows:
        raise UserError(f"{path}: seeds: the baseline needs at least as many as the rows ({seeds.rows})")
    return seeds


def _early_fraction(value: Any, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise UserError(f"{path}: early_fraction must be between 0 and 1 (a part of the steps), and is {value!r}")
    return float(value)


def _same_within(value: Any, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise UserError(f"{path}: same_within must be a positive number of nats per token, and is {value!r}")
    return float(value)
