"""Which code a config may name: `_target_` lies in this project, or in a package that the user trusts by name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ablate.config.library import PLUGINS, plugins
from ablate.errors import UserError, nearest


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
    return [
        f"{key}={target}: {reason}"
        for key, target in walk(tree, path)
        if key.rpartition(".")[2] == "_target_" and (reason := _refusal(target))
    ]


def instantiate(content: dict[str, Any]) -> Any:
    """What `content` describes by its `_target_`, made by Hydra after every target in it was checked."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate as hydra_instantiate

    if errors := problems(content):
        raise UserError("\n".join(errors))
    for key, target in walk(content):
        if key.rpartition(".")[2] == "_target_":
            _check_origin(target)
    try:
        return hydra_instantiate(content, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def _trusted() -> tuple[str, ...]:
    return ("ablate", *plugins())


def _is_trusted(name: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in _trusted())


def _refusal(target: Any) -> str:
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        return "is no import path"
    if not _is_trusted(target):
        return f"lies outside {', '.join(_trusted())}; name its package in {PLUGINS} if you trust it"
    module = target.rpartition(".")[0]
    return "" if module and _module_exists(module) else f"there is no module {module!r}"


@cache
def _module_exists(name: str) -> bool:
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return False
    for root in spec.submodule_search_locations or ():
        place = Path(root, *rest)
        if place.is_dir() or place.with_suffix(".py").is_file():
            return True
    return not rest and spec.submodule_search_locations is None


def _check_origin(target: str) -> None:
    module_name, _, name = target.rpartition(".")
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise UserError(f"_target_={target}: {module_name} has no {name!r}{nearest(name, vars(module))}")
    origin = getattr(getattr(module, name), "__module__", "")
    if not _is_trusted(origin):
        raise UserError(f"_target_={target}: comes from {origin!r}, outside {', '.join(_trusted())}")
