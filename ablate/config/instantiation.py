"""What a config's `_target_` makes, once every target in it was judged."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config import options, sources, targets
from ablate.config.slots import SLOTS, TARGET, Slot, slot_at
from ablate.config.targets import PARTIAL, inner_slot
from ablate.errors import UserError, nearest


def walk(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dictionaries and lists, with its dotted path."""
    if isinstance(tree, (dict, list)):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in pairs:
            yield from walk(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def fill(cfg: DictConfig | Mapping[str, Any], path: str) -> Any:
    """What a config holds at `path`, a slot such as `optimizer` or `data.source`, made; of `stack` each of its entries.

    A group without a slot (bias, sharing) is its content. Raises `UserError` where something does not fit its slot.
    """
    content = _plain(cfg, path)
    if slot := slot_at(path):
        return None if content is None and slot.may_be_null else instantiate(content, slot, path)
    within = SLOTS.get(f"{path}.*")
    if within is None:
        return content
    return {name: instantiate(inner, within, f"{path}.{name}") for name, inner in content.items()}


def instantiate(content: Mapping[str, Any], slot: Slot, path: str = "") -> Any:
    """What `content`, the option at a slot's `path`, describes by its `_target_`, made: a factory or an object.

    Everything that it names is judged before anything is imported. Raises `UserError` for what may not be called, and
    for a class that does not fit the slot.
    """
    if isinstance(content, Mapping) and TARGET in content:
        refused = [f"{key}={target}: {reason}" for key, target, reason in targets.refusals_of_option(content, slot, "")]
        if refused:
            raise UserError("\n".join(refused)).of(options.called(path or slot.path, content))
    try:
        option = _option(content, slot, slot)
    except UserError as error:
        raise error.of(options.called(path or slot.path, content)) from None
    return option.made()


def vacancy(slot: Slot) -> str:
    """What is said of a slot's option that names no class."""
    return f"has no _target_, the import path of its class, such as {slot.base}"


def _plain(cfg: DictConfig | Mapping[str, Any], path: str) -> Any:
    if isinstance(cfg, DictConfig):
        content = OmegaConf.select(cfg, path)
        return OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else content
    content = cfg
    for part in path.split("."):
        content = _plain(content, part) if isinstance(content, DictConfig) else content[part]
    return OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else content


@dataclass(frozen=True)
class Option:
    """A class or function with what it is called with, options inside options; and whether that is done at once."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    is_factory: bool

    def made(self) -> Any:
        """The factory, or the object."""
        arguments = {key: _made(value) for key, value in self.arguments.items()}
        return partial(self.function, **arguments) if self.is_factory else self.function(**arguments)


def _made(value: Any) -> Any:
    """A value with the options in it made."""
    if isinstance(value, Option):
        return value.made()
    if isinstance(value, Mapping):
        return {key: _made(inner) for key, inner in value.items()}
    return [_made(inner) for inner in value] if isinstance(value, list) else value


def _option(content: Any, slot: Slot | None, around: Slot) -> Option:
    """An option that was judged, ready to be made; raises `UserError` where it does not fit `slot`.

    Without a slot, as below a key of a plugin's class, it is made as the slot `around` has it, if it does not say.
    """
    if not isinstance(content, Mapping) or TARGET not in content:
        raise UserError(vacancy(slot or around))
    made = _located(content[TARGET])
    has_options = getattr(made, "holds_options", False)
    if slot and not has_options and (reason := misfit(made, slot)):
        raise UserError(reason)
    is_factory = (slot or around).is_factory and not has_options
    if slot is None:
        is_factory = bool(content.get(PARTIAL, is_factory))
    if reason := _wrong_keys(made, content, is_factory):
        raise UserError(reason)
    owner = str(content[TARGET])
    arguments = {
        key: _within(value, inner_slot(owner, key, slot), slot or around)
        for key, value in content.items()
        if key not in (TARGET, PARTIAL)
    }
    return Option(made, arguments, is_factory)


def _within(value: Any, slot: Slot | None, around: Slot) -> Any:
    """The value of a key with the options in it, which fill `slot`."""
    if isinstance(value, Mapping):
        if TARGET in value:
            return _option(value, slot, around)
        return {key: _within(inner, slot, around) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_within(inner, slot, around) for inner in value]
    return value


def misfit(made: Any, slot: Slot) -> str:
    """Why what a `_target_` names cannot fill a slot: what it lacks; empty where it can."""
    lacking = [name for name in slot.declares if not hasattr(made, name)]
    if isinstance(made, type):  # what a function makes is not known
        lacking += [name for name in slot.methods if not any(name in vars(one) for one in made.__mro__)]
    if not lacking:
        return ""
    named = " or ".join(sorted(lacking))
    them = "it" if len(lacking) == 1 else "them"
    return f"{made.__module__}.{made.__qualname__} has no {named}; inherit {slot.base}, or declare {them}"


def _wrong_keys(made: Any, content: Mapping[str, Any], is_factory: bool) -> str:
    """Which of an option's keys its class does not take, or lacks; empty where all is well."""
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):
        return ""
    name = f"{made.__module__}.{made.__qualname__}"
    given = [str(key) for key in content if key not in (TARGET, PARTIAL)]
    arguments = signature.parameters
    if not any(one.kind is one.VAR_KEYWORD for one in arguments.values()):
        for key in given:
            if key not in arguments:
                return f"{name} takes no {key!r}{nearest(key, arguments)}"
    if not is_factory:
        try:
            signature.bind(**dict.fromkeys(given))
        except TypeError as error:
            return f"{name}: {error}"
    return ""


def code(tree: Any) -> dict[str, str]:
    """Every module of others that plain containers name by `_target_`, with a sha256 of its source.

    Of a package it is that of all its files, since what it offers may be written in any of them. What a module imports
    from elsewhere is not seen.
    """
    modules = {target.rpartition(".")[0] for target in _targets(tree) if target.partition(".")[0] != "ablate"}
    return {module: _sha256(place) for module in sorted(modules) if (place := sources.place_of(module))}


def _targets(tree: Any) -> set[str]:
    """Every `_target_` in nested containers: quick, because a report asks for those of thousands of runs."""
    found, todo = set(), [tree]
    while todo:
        inner = todo.pop()
        if isinstance(inner, dict):
            if TARGET in inner and not isinstance(inner[TARGET], (dict, list)):
                found.add(str(inner[TARGET]))
            todo += [value for value in inner.values() if isinstance(value, (dict, list))]
        else:
            todo += [value for value in inner if isinstance(value, (dict, list))]
    return found


def _sha256(place: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        found.update(f"{path.relative_to(place)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def _located(target: str) -> Any:
    """The class or function at an import path; raises `UserError` where there is none, or one from elsewhere."""
    module_name, _, name = target.rpartition(".")
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise UserError(f"_target_={target}: {module_name} has no {name!r}{nearest(name, vars(module))}")
    found = getattr(module, name)
    origin = getattr(found, "__module__", "")
    if not targets.is_trusted(origin):
        raise UserError(f"_target_={target}: comes from {origin!r}, outside {', '.join(targets.trusted())}")
    return found
