"""A sweep file, read and checked: the question, the baseline, the rows, the number of seeds."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.config.overrides import key_of
from ablate.errors import UserError, nearest
from ablate.naming import check_sweep_name, slug
from ablate.study import published
from ablate.study.inheritance import KINDS, extended, find, names, read

GIVEN_BY_THE_SWEEP = ("sweep", "row", "seed.base")
MOST_ROWS, MOST_SEEDS, MOST_RUNS = 10_000, 1_000, 100_000  # above any study; below what no disk has folders for
NOT_OF_A_STUDY = {"paths": "where a machine keeps things", "logger": "where the results are sent"}


@dataclass(frozen=True)
class Seeds:
    """How many seeds each kind of row is trained with: 0, 1, ..."""

    baseline: int = 5
    rows: int = 3


@dataclass(frozen=True)
class Sweep:
    """A question and the rows that answer it; `rows` begins with the baseline and has every label once."""

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
    base = _overrides(content.get("base", []), "base", path)
    baseline, rows, sections = _rows(content, base, path)
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
        sections=sections,
        reference=_reference(content.get("reference"), path),
        seeds=seeds,
        early_fraction=_early_fraction(content.get("early_fraction"), path),
        notes=_text(content, "notes", path),
    )


def _text(content: dict[str, Any], key: str, path: Path) -> str:
    value = content.get(key, "") or ""
    if not isinstance(value, str):
        raise UserError(f"{path}: {key} must be text, and is {value!r}")
    return value.strip()


def _overrides(value: Any, where: str, path: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UserError(f"{path}: {where} must be a list of overrides such as [norm=rmsnorm], and is {value!r}")
    keys = set()
    for override in value:
        if not isinstance(override, str) or "=" not in override or not key_of(override):
            raise UserError(f"{path}: {where}: {override!r} is not an override such as norm=rmsnorm")
        if (key := key_of(override)) in GIVEN_BY_THE_SWEEP:
            raise UserError(f"{path}: {where}: {key} is given by the sweep itself; leave it out")
        if reason := NOT_OF_A_STUDY.get(key.split(".")[0].split("/")[0]):
            raise UserError(f"{path}: {where}: {key} says {reason}; give it on the command line")
        if key in keys:
            raise UserError(f"{path}: {where}: {key} is set twice")
        keys.add(key)
    return tuple(value)


def _rows(
    content: dict[str, Any], base: tuple[str, ...], path: Path
) -> tuple[str, dict[str, tuple[str, ...]], dict[str, str]]:
    """The baseline's label, overrides by label, section by label."""
    kinds = [kind for kind in KINDS if kind in content]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none of them"
        raise UserError(f"{path}: give one of rows, grid or sections; there is {found}")
    kind = kinds[0]
    baseline = _text(content, "baseline", path)
    if kind == "grid":
        baseline, points = _grid(content["grid"], baseline, base, path)
        groups = {"grid": points}
    else:
        groups = content["sections"] if kind == "sections" else {"rows": content["rows"]}
        if not baseline:
            raise UserError(f"{path}: baseline is missing; give the label that the rows are compared with")
        if kind == "rows" and isinstance(groups["rows"], dict) and baseline not in groups["rows"]:
            raise UserError(f"{path}: no row {baseline!r} for the baseline{nearest(baseline, groups['rows'])}")
        groups = _labelled(groups, baseline, path)
    rows: dict[str, tuple[str, ...]] = {}
    sections: dict[str, str] = {}
    for section, members in groups.items():
        for label, overrides in members.items():
            if label in rows:
                raise UserError(f"{path}: {label!r} is in {sections[label]} and in {section}")
            rows[label], sections[label] = overrides, section
    if len(rows) > MOST_ROWS:
        raise UserError(f"{path}: {len(rows):,} rows; a sweep has at most {MOST_ROWS:,}")
    rows.setdefault(baseline, ())
    sections[baseline] = "baseline"
    if len(rows) < 2:
        raise UserError(f"{path}: there is nothing but the baseline; give at least one row")
    _check_slugs(rows, path)
    return baseline, rows, sections


def _labelled(groups: Any, baseline: str, path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    if not isinstance(groups, dict) or not groups:
        raise UserError(f"{path}: sections must hold sections of rows")
    checked = {}
    for section, members in groups.items():
        if not isinstance(members, dict) or not members:
            raise UserError(f"{path}: {section} must hold rows such as  SwiGLU: [activation=swiglu]")
        checked[section] = {label: _overrides(overrides, repr(label), path) for label, overrides in members.items()}
        for label, overrides in checked[section].items():
            _check_row(label, overrides, label == baseline, path)
    return checked


def _check_row(label: str, overrides: tuple[str, ...], is_baseline: bool, path: Path) -> None:
    if not label or label != " ".join(label.split()) or not label.isprintable() or "${" in label or len(label) > 200:
        raise UserError(
            f"{path}: {label!r} cannot label a row: one line of 1 to 200 characters, single spaces within, no ${{"
        )
    for override in overrides:
        if key_of(override).split(".")[0] == "shape":
            raise UserError(f"{path}: {label!r}: no row changes the shape ({override}); put it in base")
    if not overrides and not is_baseline:
        raise UserError(f"{path}: {label!r} changes nothing, and is not the baseline")


def _grid(axes: Any, baseline: str, base: tuple[str, ...], path: Path) -> tuple[str, dict[str, tuple[str, ...]]]:
    """The full cross product, labelled "norm=rmsnorm activation=swiglu"."""
    if not isinstance(axes, dict) or not axes:
        raise UserError(f"{path}: grid must hold axes such as  norm: [layernorm, rmsnorm]")
    written: dict[str, list[str]] = {}
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: grid: {key} must be a list of values, and is {values!r}")
        written[key] = [f"{key}={_word(value, key, path)}" for value in values]
        if len(set(written[key])) < len(values):
            raise UserError(f"{path}: grid: {key} has a value twice")
        _overrides(written[key][:1], f"grid: {key}", path)
    if (points := math.prod(map(len, written.values()))) > MOST_ROWS:
        raise UserError(f"{path}: grid: {points:,} points; a sweep has at most {MOST_ROWS:,} rows")
    rows = {" ".join(point): point for point in itertools.product(*written.values())}
    for label, point in rows.items():
        _check_row(label, point, False, path)
    if not baseline:
        baseline = " ".join(_base_value(key, written[key], base, path) for key in axes)
    if baseline not in rows:
        raise UserError(f"{path}: no point {baseline!r} in the grid{nearest(baseline, rows)}")
    return baseline, rows


def _word(value: Any, key: str, path: Path) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (str, int, float)) and str(value):
        return str(value)
    raise UserError(f"{path}: grid: {key}: {value!r} cannot be a value of an axis")


def _base_value(key: str, points: list[str], base: tuple[str, ...], path: Path) -> str:
    """The override of this axis that says what the base already is."""
    from ablate.config import compose, options

    given = [override for override in base if key_of(override) == key]
    groups = options.defaults()
    if given:
        point = given[0].lstrip("+")
    elif key in groups:
        point = f"{key}={options.written(groups[key])}"
    else:
        from omegaconf import OmegaConf

        point = f"{key}={_word(OmegaConf.select(compose(list(base)), key), key, path)}"
    if point not in points:
        choices = ", ".join(choice.partition("=")[2] for choice in points)
        raise UserError(f"{path}: grid: the base has {point}, which is not among {choices}: add it, or name a baseline")
    return point


def _check_slugs(rows: dict[str, tuple[str, ...]], path: Path) -> None:
    owner: dict[str, str] = {}
    for label in rows:
        if (other := owner.setdefault(slug(label), label)) != label:
            raise UserError(f"{path}: {label!r} and {other!r} would share the folder {slug(label)!r}")


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
