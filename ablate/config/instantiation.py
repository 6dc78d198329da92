"""Which code a config may name: `_target_` lies in this project, or in a package that the user trusts by name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ablate.config.options import PLUGINS, plugins
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
    return "" if module and _place_of(module) else f"there is no module {module!r}"


def code(tree: Any) -> dict[str, str]:
    """Every module of others that plain containers name by `_target_`, with a sha256 of its source.

    Of a package it is that of all its files, since what it offers may be written in any of them. What a module imports
    from elsewhere is not seen.
    """
    targets = (str(target) for key, target in walk(tree) if key.rpartition(".")[2] == "_target_")
    modules = {target.rpartition(".")[0] for target in targets if target.partition(".")[0] != "ablate"}
    return {module: _sha256(place) for module in sorted(modules) if (place := _place_of(module))}


def _sha256(place: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        found.update(f"{path.relative_to(place)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


@cache
def _place_of(name: str) -> Path | None:
    """The file of a module, or the folder of a package; imports nothing but packages above it."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    for root in spec.submodule_search_locations or ():
        place = Path(root, *rest)
        if place.is_dir():
            return place
        if place.with_suffix(".py").is_file():
            return place.with_suffix(".py")
    return Path(spec.origin) if not rest and spec.submodule_search_locations is None and spec.origin else None


def _check_origin(target: str) -> None:
    module_name, _, name = target.rpartition(".")
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        raise UserError(f"_target_={target}: {module_name} has no {name!r}{nearest(name, vars(module))}")
    origin = getattr(getattr(module, name), "__module__", "")
    if not _is_trusted(origin):
        raise UserError(f"_target_={target}: comes from {origin!r}, outside {', '.join(_trusted())}")
