"""Which class or function a `_target_` may name, and where: judged by the source, before anything is imported.

A config may come from a stranger: in a sweep file, a run's folder, a record. So a `_target_` is accepted in two places
only: where a slot has its option, and inside an option at a key by which its class takes another (`inner_options`, or
any key of a class that `holds_options`). There it must name what the slot's contract asks for: code of this project
that is such an option, or code of a package that the user named in ABLATE_PLUGINS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ablate.config import sources
from ablate.config.options import CONF, PLUGINS, is_global, load, plugins
from ablate.config.slots import INNER, SLOTS, TARGET, Slot, filled, slot_at
from ablate.text import shown

PARTIAL = "_partial_"
OURS = "ablate"
NO_OPTION = "is no option of any slot"
Refusal = tuple[str, Any, str]  # a key, its value, and why it is not accepted


def trusted() -> tuple[str, ...]:
    """The packages whose code a config may name."""
    return (OURS, *plugins())


def is_trusted(name: str) -> bool:
    """Whether a module, or what is in it, belongs to one of these packages."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in trusted())


def refusals(tree: Any, path: str = "") -> Iterator[Refusal]:
    """What a config, or the part of it at `path`, names and may not: in plain containers, its interpolations followed
    or not."""
    slot = slot_at(path)
    if slot and isinstance(tree, Mapping) and TARGET in tree:
        yield from refusals_of_option(tree, slot, path)
        return
    for key, value in _items(tree):
        at = f"{path}.{key}" if path else str(key)
        if key == TARGET:
            yield at, value, "no class can be named here"
        else:
            yield from refusals(value, at)


def refusals_of_option(content: Mapping[str, Any], slot: Slot | None, path: str) -> Iterator[Refusal]:
    """The same of an option that is to fill `slot`; None for whatever a plugin's class takes."""
    target = content[TARGET]
    if reason := refusal(target, slot):
        yield f"{path}.{TARGET}" if path else TARGET, target, reason
        return
    for key, value in content.items():
        at = f"{path}.{key}" if path else str(key)
        if key not in (TARGET, PARTIAL) and _is_hydras(str(key)):
            yield at, shown(value), "Hydra's own keys are not used in an option"
        else:
            yield from _refusals_within(value, target, str(key), slot, at)


def _refusals_within(value: Any, owner: str, key: str, slot: Slot | None, path: str) -> Iterator[Refusal]:
    """What is refused below a key of the option whose class is `owner`."""
    if not (isinstance(value, Mapping) and TARGET in value):
        for name, item in _items(value):
            yield from _refusals_within(item, owner, key, slot, f"{path}.{name}")
    elif is_inner_place(owner, key, slot):
        yield from refusals_of_option(value, inner_slot(owner, key, slot), path)
    else:
        yield f"{path}.{TARGET}", value[TARGET], f"{owner} takes no option as {key}"


def is_inner_place(owner: str, key: str, slot: Slot | None) -> bool:
    """Whether the class `owner`, which fills `slot`, takes an option by this key."""
    return inner_slot(owner, key, slot) is not None or not _is_ours(owner)


def inner_slot(owner: str, key: str, slot: Slot | None) -> Slot | None:
    """The slot whose options the class `owner`, which fills `slot`, takes by this key; None where it is not known."""
    if sources.attribute(owner, "holds_options") is True:
        return slot
    found = sources.attribute(owner, "inner_options")
    path = found.get(key) if isinstance(found, dict) else None
    return INNER.get(path) or slot_at(path) if isinstance(path, str) else None


def refusal(target: Any, slot: Slot | None) -> str:
    """Why what a `_target_` names cannot fill a slot, as far as its source says; empty where it may. Imports nothing.

    Without a slot, which is so below keys of a plugin's class, it must be a plugin's, or an option of any slot.
    """
    if not isinstance(target, str):
        return "is not an import path"
    return _refusal(target, slot, trusted())


@cache  # sources do not change while a process reads them, and the rows of a sweep share most options
def _refusal(target: str, slot: Slot | None, packages: tuple[str, ...]) -> str:
    if not all(part.isidentifier() for part in target.split(".")):
        return "is not an import path"
    if not is_trusted(target):
        return f"is outside {', '.join(packages)}; name its package in {PLUGINS} if you trust it"
    if reason := sources.absence(target):
        return reason
    name = sources.written_as(target)
    if not is_trusted(name):
        return f"comes from {name.rpartition('.')[0]!r}, outside {', '.join(packages)}"
    if not _is_ours(name) or is_option(name, slot):
        return ""
    return f"is no option of {slot.path.removesuffix('.*')} (see ablate options {slot.group})" if slot else NO_OPTION


@cache
def is_option(target: str, slot: Slot | None) -> bool:
    """Whether a class or function of this project, by its full name, is an option of `slot`; of any, where it is None.

    It is one where a file of conf/ has it in that slot, or where it holds options of whichever slot it fills. Of the
    files, over a hundred, only those that have its name are parsed, those of the slot's group first.
    """
    if sources.attribute(target, "holds_options") is True:
        return True
    naming = (path for path, text in _shipped().items() if target in text)
    for path in sorted(naming, key=lambda path: slot is not None and path.parent.name != slot.group):
        found = _slots_in(path)
        if any(target in names for names in found.values()) if slot is None else target in found[slot.path]:
            return True
    return False


@cache
def _shipped() -> dict[Path, str]:
    """The text of each option's file in conf/."""
    return {path: path.read_text(encoding="utf-8") for path in CONF.glob("*/*.yaml")}


@cache
def _slots_in(path: Path) -> dict[str, set[str]]:
    """The classes and functions that a file of conf/ has in each slot, by the slot's path."""
    found: dict[str, set[str]] = {slot: set() for slot in (*SLOTS, *INNER)}
    content = load(path)
    for slot, _, option in filled(content if is_global(path) else {path.parent.name: content}):
        _collect(option, slot, found)
    return found


def _collect(option: Any, slot: Slot, found: dict[str, set[str]]) -> None:
    """Add the class of an option, and those of the options inside it, to what their slots have."""
    if not isinstance(option, Mapping) or TARGET not in option:
        return
    found[slot.path].add(option[TARGET])
    for key, value in option.items():
        if inner := inner_slot(option[TARGET], key, slot):
            _collect(value, inner, found)


def _is_hydras(key: str) -> bool:
    """Whether Hydra would read a key itself, as `_args_`, and not hand it to the class."""
    return key.startswith("_") and key.endswith("_")


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == OURS


def _items(tree: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(tree, Mapping):
        yield from tree.items()
    elif isinstance(tree, (list, tuple)):
        yield from enumerate(tree)
