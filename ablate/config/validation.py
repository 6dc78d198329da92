"""Everything that can be wrong with a composed config's values, told at once, a line each."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.config import instantiation, ranges, resolution
from ablate.config.keys import flatten
from ablate.config.resolvers import register
from ablate.errors import UserError

Tree = dict[str, Any]
SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
RATIO = re.compile(r"\d+/\d+")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list"}


def validate(cfg: DictConfig) -> None:
    """Raise `UserError` with a line for each thing that is wrong in `cfg`."""
    if errors := problems(OmegaConf.to_container(cfg)):
        raise UserError("\n".join(errors))


def problems(raw: Tree, base: Tree | None = None, given: Collection[str] = ()) -> list[str]:
    """A line for each mistake in a config, plain containers `raw`; `given` keys keep the type they have in `base`."""
    if leaks := _environment(raw):
        return leaks  # before anything is resolved
    flat, errors = resolve(raw)
    if base is not None and given:
        errors += _types(flat, base, given)
    errors += instantiation.problems(flat)
    if not errors:
        errors += ranges.problems(flat)
    return errors


def resolve(raw: Tree) -> tuple[dict[str, Any], list[str]]:
    """All values as flat `dotted.key: value` pairs, and a line for each that cannot be resolved."""
    if (plain := resolution.resolve(raw)) is not None:
        return flatten(plain), []
    register()
    cfg = OmegaConf.create(raw)
    try:
        return flatten(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)), []
    except OmegaConfBaseException:
        return _resolve_one_by_one(cfg)


def _resolve_one_by_one(cfg: DictConfig) -> tuple[dict[str, Any], list[str]]:
    flat, errors = {}, []
    for key, written in flatten(OmegaConf.to_container(cfg)).items():
        if written == "???":
            errors.append(f"{key} must be given, as in {key}=…")
            continue
        try:
            value = OmegaConf.select(cfg, key, throw_on_missing=True)
            flat[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            if "MissingMandatoryValue" in str(error):
                continue  # told where the value is missing
            reason = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
            errors.append(f"{key}={written}: {'refers to itself' if 'recursion' in reason else reason}")
    return flat, errors


def _environment(raw: dict[str, Any]) -> list[str]:
    """Environment variables may say where things lie, nothing else: the config is written to disk."""
    errors = []
    for key, value in instantiation.walk(raw):
        if not (isinstance(value, str) and "${" in value and "oc.env" in value):
            continue
        if not key.startswith("paths."):
            errors.append(f"{key}: the environment may only be read under paths, since the config is written to disk")
        elif SECRET.search(value):
            errors.append(f"{key}: a secret would be written to disk with the config")
    return errors


def _types(flat: Tree, base: Tree, given: Collection[str]) -> list[str]:
    errors = []
    kinds = _resolved(base, given)
    for key, value in flat.items():
        if not _among(key, given):
            continue
        old = kinds.get(key)
        reason = "" if old is None else _type_problem(value, old)
        if not reason and _is_number(value):
            reason = _sign_problem(value, old)
        if reason:
            errors.append(f"{key}={_shown(value)}: {reason}")
    return errors


def _resolved(base: Tree, given: Collection[str]) -> Tree:
    """The values in `base` as flat pairs, resolved where one of the `given` keys is an interpolation there."""
    flat = flatten(base)
    if any("${" in str(value) for key, value in flat.items() if _among(key, given)):
        return resolve(base)[0]
    return flat


def _among(key: str, given: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in given)


def _type_problem(value: Any, old: Any) -> str:
    kind = type(old)
    if isinstance(value, kind) and isinstance(value, bool) == isinstance(old, bool):
        if isinstance(old, list) and old and (kinds := {type(item) for item in old}) and len(kinds) == 1:
            wrong = [item for item in value if _type_problem(item, old[0])]
            return f"each entry must be {KINDS.get(type(old[0]), 'like the others')}" if wrong else ""
        return ""
    if _is_number(value) and (kind is float or (kind is str and RATIO.fullmatch(old))):
        return ""
    return f"must be {KINDS.get(kind, 'a set of keys')}"


def _sign_problem(value: float, old: Any) -> str:
    """Nothing that is not negative in its option's file can become so."""
    if not math.isfinite(value):
        return "must be a finite number"
    return "must not be negative" if value < 0 and not (_is_number(old) and old < 0) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A value as one writes it on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
