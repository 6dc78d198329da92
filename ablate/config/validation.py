"""Everything that can be wrong with a composed config's values, a line each."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.config import instantiation, options, resolution, settling, slots, targets, values
from ablate.config.keys import flatten, plain
from ablate.config.resolvers import register
from ablate.errors import UserError
from ablate.text import shown

Tree = dict[str, Any]
SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
RATIO = re.compile(r"\d+/\d+")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", list: "a list"}


def validate(cfg: DictConfig) -> None:
    """Raise `UserError` with a line for each thing that is wrong in `cfg`."""
    if errors := problems(plain(cfg)):
        raise UserError("\n".join(errors))


def problems(raw: Tree, base: Tree | None = None, given: Collection[str] = ()) -> list[str]:
    """A line for each mistake in a config, plain containers `raw`; `given` keys keep the type they have in `base`."""
    if objections := _objections(raw):
        return objections  # before anything is resolved
    flat, errors = resolve(raw)
    if base is not None and given:
        errors += _types(flat, base, given)
    errors += _options(raw, given)
    if not errors:
        errors += values.problems(flat)
    return errors


def _options(raw: Tree, given: Collection[str]) -> list[str]:
    """A line for each option that names no class, or one that may not be called; of a key in `given`, by that key."""
    errors = [f"{_called(raw, path)} {instantiation.vacancy(slot)}" for slot, path in slots.vacancies(raw)]
    for key, target, reason in targets.refusals(raw):
        path = next((path for _, path, _ in slots.filled(raw) if key.startswith(f"{path}.")), "")
        if not path or _among(key, given):
            errors.append(f"{key}={target}: {reason}")
        else:
            errors.append(f"{_called(raw, path)}: {key.removeprefix(f'{path}.')}={target}: {reason}")
    return errors


def _called(raw: Tree, path: str) -> str:
    """What the option is called that a slot's place belongs to, and the place within it."""
    group, _, rest = path.partition(".")
    if options.takes_several(group):
        return options.called(path, raw)
    named = options.called(group, raw[group])
    return f"{named}: {rest}" if rest else named


def resolve(raw: Tree) -> tuple[dict[str, Any], list[str]]:
    """All values as flat `dotted.key: value` pairs, and a line for each that cannot be resolved."""
    if (found := resolution.resolve(raw)) is not None:
        return flatten(found), []
    register()
    cfg = OmegaConf.create(raw)
    try:
        return flatten(plain(cfg, resolve=True, throw_on_missing=True)), []
    except OmegaConfBaseException:
        return _resolve_one_by_one(cfg)


def _resolve_one_by_one(cfg: DictConfig) -> tuple[dict[str, Any], list[str]]:
    flat, errors = {}, []
    for key, written in flatten(plain(cfg)).items():
        if written == "???":
            errors.append(f"{key} must be given, as in {key}=…")
            continue
        try:
            value = OmegaConf.select(cfg, key, throw_on_missing=True)
            flat[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            if "MissingMandatoryValue" in str(error):
                continue  # said where the value is missing
            reason = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
            errors.append(f"{key}={written}: {'refers to itself' if 'recursi' in reason.lower() else reason}")
    return flat, errors


def _objections(raw: dict[str, Any]) -> list[str]:
    """A line for each interpolation that is not followed.

    Environment variables may say where things lie, nothing else: the config is written to disk.
    """
    errors = []
    for key, value in instantiation.walk(raw):
        if not (isinstance(value, str) and "${" in value):
            continue
        is_path = key.startswith("paths.")
        if reason := resolution.objection(value, may_read_environment=is_path):
            errors.append(f"{key}: {reason}")
        elif is_path and resolution.ENVIRONMENT in value and SECRET.search(value):
            errors.append(f"{key}: a secret would be written to disk with the config")
    return errors


def _types(flat: Tree, base: Tree, given: Collection[str]) -> list[str]:
    errors = []
    kinds = _resolved(base, given)
    for key, value in flat.items():
        if not _among(key, given):
            continue
        old = kinds.get(key)
        if key in settling.RULES:
            continue  # a word or a number, as its range says
        reason = "" if old is None else _type_problem(value, old)
        if not reason and _is_number(value):
            reason = _sign_problem(value, old)
        if reason:
            errors.append(f"{key}={shown(value)}: {reason}")
    return errors


def _resolved(base: Tree, given: Collection[str]) -> Tree:
    """The values in `base` as flat pairs; an interpolation of a `given` key as its value, if it has one."""
    flat = flatten(base)
    written = [key for key, value in flat.items() if "${" in str(value) and _among(key, given)]
    if not written:
        return flat
    if (found := resolution.resolve(base)) is not None:
        return flatten(found)
    register()
    cfg = OmegaConf.create(base)
    for key in written:
        try:
            value = OmegaConf.select(cfg, key)
            flat[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException:
            del flat[key]
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
    return f"must be {KINDS.get(kind, 'a mapping')}"


def _sign_problem(value: float, old: Any) -> str:
    """Nothing that is not negative in its option's file can become so."""
    if not math.isfinite(value):
        return "must be a finite number"
    return "must not be negative" if value < 0 and not (_is_number(old) and old < 0) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
