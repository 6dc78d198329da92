"""What a config's `_target_` makes; it names code of this project, or of a package that the user trusts by name."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config import options, sources
from ablate.config.options import PLUGINS, plugins
from ablate.config.slots import SLOTS, TARGET, Slot, slot_at
from ablate.errors import UserError, nearest

PARTIAL = "_partial_"


def walk(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dictionaries and lists, with its dotted path."""
    if isinstance(tree, (dict, list)):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in pairs:
            yield from walk(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree


def problems(tree: Any, path: str = "") -> list[str]:
    """A line for each `_target_` in plain containers that may not be called; imports nothing."""
    return [f"{key}={target}: {reason}" for key, target, reason in refusals(tree, path)]


def refusals(tree: Any, path: str = "") -> Iterator[tuple[str, Any, str]]:
    """Each `_target_` that may not be called: its key, its value, and why not."""
    for key, target in walk(tree, path):
        if key.rpartition(".")[2] == TARGET and (reason := _refusal(target)):
            yield key, target, reason


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


def instantiate(content: Mapping[str, Any], slot: Slot | None = None, path: str = "") -> Any:
    """What `content` describes by its `_target_`, made by Hydra after every target in it was checked.

    With a `slot` the option at its `path` is made as that slot has it: a factory or an object, of a class that fits.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    if errors := problems(content):
        raise UserError("\n".join(errors))
    try:
        complete = _complete(content, slot, is_option=True)
    except UserError as error:
        raise (error.of(options.called(path or slot.path, content)) if slot else error) from None
    try:
        return hydra_instantiate(complete, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


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


def _complete(content: Any, slot: Slot | None, *, is_option: bool) -> dict[str, Any]:
    """The content with `_partial_` at every depth; raises `UserError` for an option that does not fit its slot."""
    if not isinstance(content, Mapping) or TARGET not in content:
        raise UserError(vacancy(slot) if slot else f"{content}: has no _target_")
    made = _located(content[TARGET])
    has_options = getattr(made, "holds_options", False)
    if slot and is_option and not has_options and (reason := misfit(made, slot)):
        raise UserError(reason)
    is_partial = bool(slot and slot.is_factory and not has_options)
    if not (slot and is_option):
        is_partial = content.get(PARTIAL, is_partial)
    if reason := _wrong_keys(made, content, is_partial):
        raise UserError(reason)
    inner = {key: _complete_within(value, slot, has_options) for key, value in content.items()}
    return {**inner, PARTIAL: is_partial}


def _complete_within(value: Any, slot: Slot | None, is_option: bool) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _complete(value, slot, is_option=is_option)
        return {key: _complete_within(inner, slot, is_option) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_complete_within(inner, slot, is_option) for inner in value]
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


def _wrong_keys(made: Any, content: Mapping[str, Any], is_partial: bool) -> str:
    """Which of an option's keys its class does not take, or lacks; empty where all is well."""
    try:
        signature = inspect.signature(made)
    except (TypeError, ValueError):
        return ""
    name = f"{made.__module__}.{made.__qualname__}"
    given = [key for key in content if not (key.startswith("_") and key.endswith("_"))]
    arguments = signature.parameters
    if not any(one.kind is one.VAR_KEYWORD for one in arguments.values()):
        for key in given:
            if key not in arguments:
                return f"{name} takes no {key!r}{nearest(key, arguments)}"
    if not is_partial and "_args_" not in content:
        try:
            signature.bind(**dict.fromkeys(given))
        except TypeError as error:
            return f"{name}: {error}"
    return ""


def _trusted() -> tuple[str, ...]:
    return ("ablate", *plugins())


def _is_trusted(name: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in _trusted())


def _refusal(target: Any) -> str:
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "is not an import path"
    if not _is_trusted(target):
        return f"is outside {', '.join(_trusted())}; name its package in {PLUGINS} if you trust it"
    return sources.absence(target)


def code(tree: Any) -> dict[str, str]:
    """Every module of others that plain containers name by `_target_`, with a sha256 of its source.

    Of a package it is that of all its files, since what it offers may be written in any of them. What a module imports
    from elsewhere is not seen.
    """
    targets = (str(target) for key, target in walk(tree) if key.rpartition(".")[2] == TARGET)
    modules = {target.rpartition(".")[0] for target in targets if target.partition(".")[0] != "ablate"}
    return {module: _sha256(place) for module in sorted(modules) if (place := sources.place_of(module))}


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
    if not _is_trusted(origin):
        raise UserError(f"_target_={target}: comes from {origin!r}, outside {', '.join(_trusted())}")
    return found
