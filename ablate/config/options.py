"""What there is to choose from: the groups, their options, and where their YAML files lie."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ablate import packaged, yaml_text
from ablate.config import option_words
from ablate.errors import UserError, nearest

CONF = packaged.conf()
MODEL_SLOTS = (
    "topology",
    "norm",
    "residual",
    "block",
    "bias",
    "activation",
    "feedforward",
    "attention",
    "position",
    "stack",
    "sharing",
    "embedding",
    "head",
    "init",
)
Choice = str | list[str]
CLOSE = 0.6  # from which on an option's name is taken for a misspelt one, and not for one of a package
OVERRIDE = "override /"  # of an entry in the defaults list of an option's file
PLUGINS = "ABLATE_PLUGINS"  # import prefixes, separated by commas, that a user adds to `ablate.`


def plugins() -> tuple[str, ...]:
    """The packages that the user named in ABLATE_PLUGINS; they may lie in the current directory."""
    names = tuple(filter(None, map(str.strip, os.environ.get(PLUGINS, "").split(","))))
    if names and not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # the installed command does not look there by itself
    return names


def folders() -> tuple[Path, ...]:
    """Where options are looked up, in this order: the project's `conf`, then the `conf` of each plugin."""
    return (CONF, *(folder for name in plugins() for folder in _plugin_folders(name)))


def groups() -> dict[str, dict[str, Path]]:
    """Each group with its options and their files, in the order of conf/config.yaml."""
    return _groups(folders())


@cache
def defaults() -> Mapping[str, Choice]:
    """What the baseline chooses in each group: an option, or a list of them in a group that takes several."""
    entries = load(CONF / "config.yaml")["defaults"]
    chosen = {group: option for entry in entries if isinstance(entry, dict) for group, option in entry.items()}
    return MappingProxyType(chosen)


def takes_several(group: str) -> bool:
    """Whether a list can be chosen in a group: each of its options has its keys below its own name."""
    return isinstance(defaults().get(group), list)


def listed(choice: Choice) -> list[str]:
    """The options of a choice."""
    return [choice] if isinstance(choice, str) else list(choice)


def written(choice: Choice) -> str:
    """A choice as it is written in an override: `a` or `[a,b]`."""
    return choice if isinstance(choice, str) else f"[{','.join(choice)}]"


def added_by(group: str, option: str) -> dict[str, Any]:
    """What an option's file adds to the config below its group, or below the root where it is global.

    Raises `UserError` where there is no such option, or where its keys are not where its group wants them.
    """
    path = file_of(group, option)
    found = {key: value for key, value in load(path).items() if key != "defaults"}
    if takes_several(group) and not (list(found) == [option] and isinstance(found[option], dict)):
        raise UserError(f"{path}: must have the one key {option}, with its settings below, as options of {group} do")
    return found


def brought_by(path: Path) -> dict[str, Choice] | None:
    """What an option's file selects in other groups; None where that is more than `override /group: option`."""
    brought: dict[str, Choice] = {}
    for entry in load(path).get("defaults", []):
        if entry == "_self_":
            continue
        if not isinstance(entry, dict) or any(not key.startswith(OVERRIDE) for key in entry):
            return None
        brought |= {key.removeprefix(OVERRIDE).partition("@")[0]: option for key, option in entry.items()}
    return brought


def file_of(group: str, option: str) -> Path:
    """The YAML file of an option; raises `UserError` where there is none."""
    options = groups()[group]
    if option not in options:
        hint = option_words.hint(group, option) or nearest(option, options, CLOSE) or of_a_package()
        raise UserError(f"{group}={option}: unknown option{hint} ({group}: {', '.join(options)})")
    return options[option]


def of_a_package() -> str:
    """The tail of an error line for an option or a group that is not known: a package of the user's may bring it."""
    if names := plugins():
        return f"; {', '.join(names)}, named in {PLUGINS}, does not bring it either"
    return f"; if a package of yours brings it, name the package in {PLUGINS}"


def description(path: Path) -> str:
    """The first comment line of a YAML file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
    return ""


@cache
def load(path: Path) -> dict[str, Any]:
    """The content of an option's file, interpolations as they stand; do not change what it returns."""
    try:
        content = yaml_text.parse(path.read_bytes(), yaml_text.OptionLoader)
    except yaml_text.BadYAML as error:
        raise UserError(f"{error.at(path)}: no valid YAML ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold keys and values")
    return content


def content(group: str, path: Path) -> dict[str, Any]:
    """What an option's file writes into its own group."""
    written = load(path)
    return written[group] if is_global(path) else written


def called(path: str, given: Mapping[str, Any]) -> str:
    """What the option at `path` of a config is called, by its content: `norm=rmsnorm`, or `stack=funnel: encoder`.

    It is the option whose file names the same class, by most of its keys; where there is none, the class. In a group
    that takes several the path itself has the option's name.
    """
    group, _, rest = path.partition(".")
    if rest and takes_several(group):
        option, _, rest = rest.partition(".")
        return f"{group}={option}: {rest}" if rest else f"{group}={option}"
    target = given.get("_target_") if isinstance(given, Mapping) else None
    files = {option: _at(content(group, file), rest) for option, file in groups().get(group, {}).items()}
    same = {option: own for option, own in files.items() if isinstance(own, Mapping) and own.get("_target_") == target}
    if not same:
        return f"{path}={str(target).rpartition('.')[2]}" if target else path
    leaves = _leaves(given)
    option = max(same, key=lambda option: len(leaves & _leaves(same[option])))
    return f"{group}={option}: {rest}" if rest else f"{group}={option}"


def _at(tree: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _leaves(tree: Mapping[str, Any], path: str = "") -> set[tuple[str, str]]:
    """Every key of an option at any depth, with its value."""
    return {
        leaf
        for key, value in tree.items()
        for leaf in (_leaves(value, f"{path}{key}.") if isinstance(value, Mapping) else {(path + key, str(value))})
    }


@cache
def is_global(path: Path) -> bool:
    """Whether an option's file writes its keys from the root."""
    return path.read_text(encoding="utf-8").startswith("# @package _global_")


@cache
def _groups(places: tuple[Path, ...]) -> dict[str, dict[str, Path]]:
    found: dict[str, dict[str, Path]] = {group: {} for group in defaults()}
    for place in places:
        for path in sorted(place.glob("*/*.yaml")):
            found.setdefault(path.parent.name, {}).setdefault(path.stem, path)
    return found


@cache
def _plugin_folders(name: str) -> tuple[Path, ...]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise UserError(f"{PLUGINS} names {name!r}, and no such package can be imported")
    places = [Path(place) / "conf" for place in spec.submodule_search_locations or ()]
    return tuple(place for place in places if place.is_dir())
