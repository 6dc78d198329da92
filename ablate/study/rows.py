"""The rows that a sweep file lists: one change at a time, in sections, or as a grid."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.config.overrides import key_of
from ablate.errors import UserError, nearest
from ablate.naming import slug
from ablate.study import controls, expectations
from ablate.study.expectations import Expectation
from ablate.study.inheritance import KINDS, SETTINGS, is_setting

GIVEN_BY_THE_SWEEP = ("sweep", "row", "seed.base")
MOST_ROWS = 10_000
_NOT_OF_A_STUDY = {"paths": "where a machine keeps things", "logger": "where the results are sent"}
OVERRIDES = "overrides"  # the key of a row's overrides, where the row has settings, too


@dataclass(frozen=True)
class Rows:
    """The rows of a sweep by label: their overrides and sections; see `Sweep` for the rest."""

    baseline: str
    overrides: dict[str, tuple[str, ...]]
    sections: dict[str, str]
    against: dict[str, str]
    uncounted: frozenset[str]
    expected: dict[str, Expectation]


def not_of_a_study(key: str) -> str:
    """What a key says that belongs to a machine and not to a study, such as paths.runs; empty for any other."""
    return _NOT_OF_A_STUDY.get(key.split(".")[0].split("/")[0], "")


def overrides_of(value: Any, where: str, path: Path) -> tuple[str, ...]:
    """The overrides that a list in the file `path` gives; raises `UserError` that says `where` one is wrong."""
    if not isinstance(value, list):
        raise UserError(f"{path}: {where} must be a list of overrides such as [norm=rmsnorm], and is {value!r}")
    keys = set()
    for override in value:
        if not isinstance(override, str) or "=" not in override or not key_of(override):
            raise UserError(f"{path}: {where}: {override!r} is not an override such as norm=rmsnorm")
        if (key := key_of(override)) in GIVEN_BY_THE_SWEEP:
            raise UserError(f"{path}: {where}: {key} is given by the sweep itself; leave it out")
        if reason := not_of_a_study(key):
            raise UserError(f"{path}: {where}: {key} says {reason}; give it on the command line")
        if key in keys:
            raise UserError(f"{path}: {where}: {key} is set twice")
        keys.add(key)
    return tuple(value)


def rows_of(content: dict[str, Any], baseline: str, base: tuple[str, ...], path: Path) -> Rows:
    """The rows of the sweep file `path` with this `content`; raises `UserError` for whatever is wrong in them.

    `baseline` is empty where the file names none, as with a grid, whose baseline is the point that `base` already is.
    """
    kinds = [kind for kind in KINDS if kind in content]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none of them"
        raise UserError(f"{path}: give one of rows, grid or sections; there is {found}")
    kind = kinds[0]
    settings: dict[str, dict[str, Any]] = {}
    if kind == "grid":
        baseline, points = _grid(content["grid"], baseline, base, path)
        groups = {"grid": points}
    else:
        groups = content["sections"] if kind == "sections" else {"rows": content["rows"]}
        if not baseline:
            raise UserError(f"{path}: baseline is missing; give the label that the rows are compared with")
        if kind == "rows" and isinstance(groups["rows"], dict) and baseline not in groups["rows"]:
            raise UserError(f"{path}: no row {baseline!r} for the baseline{nearest(baseline, groups['rows'])}")
        groups, settings = _labelled(groups, baseline, path)
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
    against = {label: of["against"] for label, of in settings.items() if "against" in of}
    if baseline in against:
        raise UserError(f"{path}: {baseline!r}: against: the baseline is compared with no row")
    if "expect" in settings.get(baseline, {}):
        raise UserError(f"{path}: {baseline!r}: expect: the baseline is compared with no row")
    controls.check(against, rows, str(path))
    uncounted = frozenset(label for label, of in settings.items() if not of.get("counts", True))
    against = {label: control for label, control in against.items() if control != baseline}
    expected = {label: expectations.read(of["expect"], repr(label)) for label, of in settings.items() if "expect" in of}
    return Rows(baseline, rows, sections, against, uncounted, expected)


Groups = dict[str, dict[str, tuple[str, ...]]]  # overrides by label, by section


def _labelled(groups: Any, baseline: str, path: Path) -> tuple[Groups, dict[str, dict[str, Any]]]:
    """The rows of each section, and the settings of each row: its own over those of its section."""
    if not isinstance(groups, dict) or not groups:
        raise UserError(f"{path}: sections must hold sections of rows")
    checked: Groups = {}
    settings: dict[str, dict[str, Any]] = {}
    for section, members in groups.items():
        rows, of_section = _parted(members)
        if not rows:
            raise UserError(f"{path}: {section} must hold rows such as  SwiGLU: [activation=swiglu]")
        _check_settings(of_section, section, path)
        checked[section] = {}
        for label, row in rows.items():
            overrides, own = _row(label, row, path)
            checked[section][label] = overrides
            _check_row(label, overrides, label == baseline, path)
            is_for_all = label not in (baseline, of_section.get("against"))  # a control is not compared with itself
            settings[label] = (of_section if is_for_all else {}) | own
    return checked, settings


def _parted(members: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a section holds: its rows, and the settings of all of them."""
    if not isinstance(members, dict):
        return {}, {}
    settings = {key: value for key, value in members.items() if is_setting(key, value)}
    return {label: row for label, row in members.items() if label not in settings}, settings


def _row(label: str, row: Any, path: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The overrides of a row and its settings, where it is a mapping of both."""
    if not isinstance(row, dict):
        return overrides_of(row, repr(label), path), {}
    for key in row:
        if key not in (OVERRIDES, *SETTINGS):
            raise UserError(f"{path}: {label!r}: unknown key {key!r}{nearest(key, (OVERRIDES, *SETTINGS))}")
    settings = {key: value for key, value in row.items() if key != OVERRIDES}
    _check_settings(settings, repr(label), path)
    return overrides_of(row.get(OVERRIDES, []), repr(label), path), settings


def _check_settings(settings: dict[str, Any], where: str, path: Path) -> None:
    if not isinstance(settings.get("against", ""), str):
        raise UserError(f"{path}: {where}: against must be the label of a row, and is {settings['against']!r}")
    if not isinstance(settings.get("counts", True), bool):
        raise UserError(f"{path}: {where}: counts must be true or false, and is {settings['counts']!r}")
    if "expect" in settings:
        expectations.read(settings["expect"], f"{path}: {where}")


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
        overrides_of(written[key][:1], f"grid: {key}", path)
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
    from ablate.config import compose, keys, options

    given = [override for override in base if key_of(override) == key]
    groups = options.defaults()
    if given:
        point = given[0].lstrip("+")
    elif key in groups:
        point = f"{key}={options.written(groups[key])}"
    else:
        from omegaconf import OmegaConf

        value = OmegaConf.select(compose(list(base)), key)
        if value is None and not keys.exists(key):
            raise UserError(f"{path}: grid: there is no key {key!r}{keys.suggestion(key)}")
        point = f"{key}={_word(value, key, path)}"
    if point not in points:
        choices = ", ".join(choice.partition("=")[2] for choice in points)
        raise UserError(f"{path}: grid: the base has {point}, which is not among {choices}: add it, or name a baseline")
    return point


def _check_slugs(rows: dict[str, tuple[str, ...]], path: Path) -> None:
    owner: dict[str, str] = {}
    for label in rows:
        if (other := owner.setdefault(slug(label), label)) != label:
            raise UserError(f"{path}: {label!r} and {other!r} would share the folder {slug(label)!r}")
