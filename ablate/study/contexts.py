"""The contexts of a sweep, in each of which every row runs against that context's own baseline; and the rungs.

A context is a list of overrides: a size, a topology with its objective, a corpus, a recipe. Rungs are factors of the
steps at which the baseline alone runs, too, so that a difference in loss can be told in tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ablate.config.overrides import key_of
from ablate.errors import UserError
from ablate.naming import is_sweep_name
from ablate.study.rows import overrides_of

GRID = "grid"
DEFAULT_RUNGS = (0.5, 2.0)
LARGEST_RUNG = 1024.0
MOST_CONTEXTS = 100
RUNG = "x"  # what the name of a rung begins with, or ends with behind its context's: x2, small-x2


def rung_name(context: str, factor: float) -> str:
    """The name of the baseline's runs at `factor` times the steps of a context, or of the sweep itself."""
    return f"{context}-{RUNG}{factor:g}" if context else f"{RUNG}{factor:g}"


def contexts_of(value: Any, path: Path) -> dict[str, tuple[str, ...]]:
    """The overrides of each context by its name, from `contexts:` of a sweep file; raises `UserError`.

    ``{small: [...], large: [...]}`` names them; ``{grid: {size: {small: [...], large: [...]}, text: {...}}}`` makes
    one of each combination, small-c4.
    """
    if value is None:
        return {}
    if not isinstance(value, dict) or not value:
        raise UserError(f"{path}: contexts must hold contexts such as  causal: [topology=causal_decoder]")
    found = _grid(value[GRID], path) if set(value) == {GRID} and isinstance(value[GRID], dict) else {}
    for name, overrides in {} if found else value.items():
        check_name(name, "contexts", path)
        found[name] = overrides_of(overrides, f"contexts: {name}", path)
    if len(found) > MOST_CONTEXTS:
        raise UserError(f"{path}: contexts: {len(found):,}; a sweep has at most {MOST_CONTEXTS}")
    check_folders(found, path)
    return found


def check_folders(names: Iterable[str], path: Path) -> None:
    """Raise `UserError` where two contexts would share a folder: some disks do not tell capitals from small letters."""
    folders = [name.lower() for name in names]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UserError(f"{path}: contexts: two are called {folder!r} but for capital letters")


def _grid(axes: dict[Any, Any], path: Path) -> dict[str, tuple[str, ...]]:
    points = []
    for axis, levels in axes.items():
        where = f"contexts: {GRID}: {axis}"
        if not isinstance(levels, dict) or not levels:
            raise UserError(f"{path}: {where} must hold levels such as  small: [shape.n_layers=2]")
        for level in levels:
            check_name(level, "contexts", path)
        points.append([(level, overrides_of(given, f"{where}: {level}", path)) for level, given in levels.items()])
    found: dict[str, tuple[str, ...]] = {}
    for point in itertools.product(*points):
        name = "-".join(level for level, _ in point)
        overrides = [override for _, given in point for override in given]
        keys = [key_of(override) for override in overrides]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise UserError(f"{path}: contexts: {name}: {twice} is set by two axes")
        if name in found:
            raise UserError(f"{path}: contexts: two points of the grid are called {name}")
        found[name] = tuple(overrides)
    return found


def check_name(name: Any, where: str, path: Path) -> None:
    """Raise `UserError` where `name` cannot be that of a context, which is a folder."""
    if not isinstance(name, str) or not is_sweep_name(name):
        raise UserError(f"{path}: {where}: {name!r} cannot name a context: 1 to 100 letters, digits and any of . _ = -")


def rungs_of(value: Any, contexts: dict[str, tuple[str, ...]], path: Path) -> tuple[float, ...]:
    """The factors of `rungs:` in a sweep file, ascending, without 1; true is half and double. Raises `UserError`."""
    if value is None or value is False:
        return ()
    factors = DEFAULT_RUNGS if value is True else value
    if not isinstance(factors, (list, tuple)) or not factors or not all(map(_is_factor, factors)):
        raise UserError(
            f"{path}: rungs must be factors of the steps such as [0.5, 2], above 0, at most {LARGEST_RUNG:g} and not 1,"
            f" or true for these two; and is {value!r}"
        )
    found = tuple(sorted(map(float, factors)))
    if len({rung_name("", factor) for factor in found}) < len(found):
        raise UserError(f"{path}: rungs: a factor is given twice: {value!r}")
    for context in contexts or ("",):
        for factor in found:
            if (name := rung_name(context, factor)) in contexts:
                raise UserError(f"{path}: contexts: {name!r} is what the rung {factor:g} of {context!r} is called")
    return found


def _is_factor(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and 0 < value <= LARGEST_RUNG and value != 1
