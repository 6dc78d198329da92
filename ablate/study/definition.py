"""A sweep file, read and checked: the question, the baseline, the rows, the number of seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.config.overrides import merge
from ablate.errors import UserError, nearest
from ablate.naming import check_study_name
from ablate.study import published
from ablate.study.contexts import check_folders, contexts_of, rung_name, rungs_of
from ablate.study.expectations import Expectation
from ablate.study.inheritance import extended, find, names, read
from ablate.study.rows import overrides_of, rows_of
from ablate.study.scale import STEPS, Scale, scale_of

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

    With `contexts`, overrides by name, the sweep is run and judged in each of them, see `tables`. `rungs` are the
    factors of steps at which the baseline runs as well; `rung` is that of a sweep that is such a run of a baseline.
    The sizes of `scale` are contexts, too, the smallest first; a table that is not a size has none. `refused` says
    why rows that a table lacks cannot stand in its context.
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
    contexts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rungs: tuple[float, ...] = ()
    rung: float | None = None
    scale: Scale | None = None
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def tables(self) -> list[Sweep]:
        """What is run and judged as one table: the sweep itself, or each of its contexts as a sweep of its own."""
        return [self.in_context(name) for name in self.contexts] or [self]

    @property
    def parts(self) -> list[Sweep]:
        """All that is run, in turn: each table, and behind it its baseline at the rungs."""
        return [part for table in self.tables for part in (table, *table.at_rungs())]

    def in_context(self, context: str) -> Sweep:
        """The sweep in one of its contexts, called NAME/CONTEXT; raises `UserError` for one that it does not have."""
        if context not in self.contexts:
            there = f"there are: {', '.join(self.contexts)}" if self.contexts else "it has none"
            raise UserError(f"no context {context!r} in {self.name}{nearest(context, self.contexts)} ({there})")
        base = merge(self.base, self.contexts[context])
        scale = self.scale if self.scale and context in self.scale.sizes else None
        if scale:
            baseline = self.rows[self.baseline]
            sizes = {size: tuple(merge(self.base, given, baseline)) for size, given in scale.sizes.items()}
            base = merge(base, [f"{STEPS}={scale.steps(context, sizes)}"])
        return replace(self, name=f"{self.name}/{context}", base=tuple(base), contexts={}, scale=scale)

    def at_rungs(self) -> Iterator[Sweep]:
        """The baseline of a table alone at each rung, as a sweep called NAME/x2, or NAME/CONTEXT-x2."""
        name, _, context = self.name.partition("/")
        for factor in self.rungs:
            yield replace(
                self,
                name=f"{name}/{rung_name(context, factor)}",
                rows={self.baseline: self.rows[self.baseline]},
                sections={self.baseline: self.sections[self.baseline]},
                against={},
                uncounted=frozenset(),
                expected={},
                rungs=(),
                rung=factor,
                scale=None,
                refused={},
            )

    def seeds_of(self, row: str) -> int:
        """The number of seeds that `row` is trained with."""
        return self.seeds.baseline if row == self.baseline else self.seeds.rows


def load(name: str, folder: str | Path = "sweeps") -> Sweep:
    """Read the sweep `name` of `folder`, else of the package; raises `UserError` for whatever is wrong in it.

    NAME/CONTEXT is the sweep NAME in one of its contexts, or its baseline at one of the rungs.
    """
    check_study_name(name)
    whole, _, part = name.partition("/")
    path = find(whole, folder)
    if path is None:
        there = names(folder)
        raise UserError(f"no sweep {whole!r} in {folder}{nearest(whole, there)} (there are: {', '.join(there)})")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    sweep = parse(whole, text, path)
    if not part:
        return sweep
    rungs = {rung.name: rung for table in sweep.tables for rung in table.at_rungs()}
    return rungs[name] if name in rungs else sweep.in_context(part)


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
    scale = scale_of(content.get("scale"), path)
    contexts = _with_sizes(contexts_of(content.get("contexts"), path), scale, path)
    rungs = rungs_of(content.get("rungs"), contexts, path)
    a_table = seeds.baseline * (1 + len(rungs)) + (len(rows) - 1) * seeds.rows
    if (runs := max(1, len(contexts)) * a_table) > MOST_RUNS:
        where = f" in {len(contexts)} contexts" if contexts else ""
        raise UserError(
            f"{path}: {len(rows):,} rows with their seeds{where} are {runs:,} runs; at most {MOST_RUNS:,} are planned"
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
        contexts=contexts,
        rungs=rungs,
        scale=scale,
    )


def _with_sizes(contexts: dict[str, tuple[str, ...]], scale: Scale | None, path: Path) -> dict[str, tuple[str, ...]]:
    """The contexts of a sweep, the sizes of its scale behind the others."""
    sizes = scale.sizes if scale else {}
    if both := next((name for name in sizes if name in contexts), None):
        raise UserError(f"{path}: scale: {both!r} is the name of a context already")
    check_folders([*contexts, *sizes], path)
    return contexts | sizes


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
