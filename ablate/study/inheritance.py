"""The text of a sweep file as a mapping, over the sweep that it extends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablate import packaged, yaml_text
from ablate.config import common_words
from ablate.config.renamed import RENAMED
from ablate.errors import UserError, nearest
from ablate.naming import is_sweep_name

KEYS = (
    "extends",
    "add",
    "drop",
    "question",
    "base",
    "baseline",
    "rows",
    "grid",
    "sections",
    "reference",
    "seeds",
    "contexts",
    "rungs",
    "scale",
    "early_fraction",
    "same_within",
    "protocol",
    "notes",
)
KINDS = ("rows", "grid", "sections")  # the ways to list rows
SETTINGS_OF_ALL = ("against", "counts")  # of a row, or of all rows of a section
SETTINGS = (*SETTINGS_OF_ALL, "expect")  # of a row


def is_setting(key: str, value: Any) -> bool:
    """Whether what a section holds under `key` is a setting of all its rows; a row is a list or a mapping."""
    return key in SETTINGS_OF_ALL and not isinstance(value, (list, dict))


def find(name: str, folder: str | Path) -> Path | None:
    """The file of the sweep `name`: in `folder`, else in the package; None where it is in neither.

    That of NAME/CONTEXT is that of NAME.
    """
    file = f"{name.partition('/')[0]}.yaml"
    places = (Path(folder) / file, packaged.sweeps() / file)
    return next((path for path in places if path.exists()), None)


def names(folder: str | Path) -> list[str]:
    """The sweeps in `folder`, then those of the package that no file of the same name hides."""
    own, others = (sorted(path.stem for path in Path(place).glob("*.yaml")) for place in (folder, packaged.sweeps()))
    return [*own, *(name for name in others if name not in own)]


def read(text: str, path: Path) -> dict[str, Any]:
    """The mapping that `text`, the content of `path`, holds; raises `UserError`."""
    try:
        content = yaml_text.parse(text, yaml_text.TextKeyLoader)
    except yaml_text.BadYAML as error:
        raise UserError(f"{error.at(path)}: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a sweep file is a mapping with the keys {', '.join(KEYS)}")
    return content


def extended(content: dict[str, Any], path: Path, below: tuple[str, ...] = ()) -> dict[str, Any]:
    """`content` over that of the sweep it extends: each key that it gives replaces the other's.

    One way of listing rows replaces another: rows, grid and sections are one key here. ``add`` puts rows (or sections
    of rows) among the other's, in the place of those with the same label, and ``drop`` takes rows out. The other sweep
    is looked up beside `path`, then among those that come with the package.
    """
    for key in content:
        if (new := RENAMED.get(key)) in KEYS:
            raise UserError(f"{path}: {key} is now called {new}")
        if key not in KEYS:
            hint = common_words.hint(str(key))
            raise UserError(f"{path}: unknown key {key!r}{f'{hint}, in base' if hint else nearest(str(key), KEYS)}")
    parent, add, drop = (content.pop(key, None) for key in ("extends", "add", "drop"))
    if parent is None:
        if add is not None or drop is not None:
            raise UserError(f"{path}: add and drop change the rows of another sweep; name it with extends")
        return content
    if not isinstance(parent, str) or parent in (*below, path.stem):
        raise UserError(f"{path}: extends must name another sweep, and is {parent!r}")
    parent_path = find(parent, path.parent) if is_sweep_name(parent) else None
    if parent_path is None:
        there = names(path.parent)
        raise UserError(f"{path}: extends: no sweep {parent!r}{nearest(parent, there)} (there are: {', '.join(there)})")
    inherited = extended(read(parent_path.read_text(encoding="utf-8"), parent_path), parent_path, (*below, path.stem))
    if any(kind in content for kind in KINDS):
        if add is not None or drop is not None:
            raise UserError(f"{path}: add and drop change the rows of {parent}; it cannot list rows of its own as well")
        inherited = {key: value for key, value in inherited.items() if key not in KINDS}
    return _changed(inherited, add, drop, path) | content


def _changed(inherited: dict[str, Any], add: Any, drop: Any, path: Path) -> dict[str, Any]:
    """What is inherited, with rows put in and taken out."""
    if add is None and drop is None:
        return inherited
    kind = next((kind for kind in ("rows", "sections") if isinstance(inherited.get(kind), dict)), None)
    if kind is None:
        raise UserError(f"{path}: add and drop need a sweep that lists its rows; it extends a grid")
    groups = inherited["sections"] if kind == "sections" else {"rows": inherited["rows"]}
    groups = {section: dict(rows) if isinstance(rows, dict) else rows for section, rows in groups.items()}
    labels = [label for rows in groups.values() if isinstance(rows, dict) for label in rows]
    for label in _list(drop or [], "drop", path):
        if label not in labels:
            raise UserError(f"{path}: drop: no row {label!r}{nearest(str(label), labels)}")
        for rows in groups.values():
            rows.pop(label, None)
    add = {} if add is None else add if kind == "sections" else {"rows": add}
    if not isinstance(add, dict) or not all(isinstance(rows, dict) for rows in add.values()):
        shown = "sections of rows" if kind == "sections" else "rows such as  SwiGLU: [activation=swiglu]"
        raise UserError(f"{path}: add must hold {shown}, as the sweep that it extends does")
    for section, rows in add.items():
        groups.setdefault(section, {}).update(rows)
    groups = {section: rows for section, rows in groups.items() if not all(map(is_setting, rows, rows.values()))}
    return inherited | {kind: groups if kind == "sections" else groups.get("rows", {})}


def _list(value: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{path}: {key} must be a list of labels, and is {value!r}")
    return value
