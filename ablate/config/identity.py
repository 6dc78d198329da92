"""What makes two runs the same run: a hash of everything that can change the result."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from omegaconf import DictConfig

from ablate.config import evaluations, instantiation, sources
from ablate.config.batch import share_by
from ablate.config.instantiation import PARTIAL
from ablate.config.keys import flatten, plain
from ablate.config.slots import TARGET
from ablate.errors import UserError

SCHEMA = 3  # raised when the same config would no longer give the same numbers
REASONS = {  # why, by the schema that came with it
    3: "held-out text is drawn evenly from all of it, masked training draws ids that texts have, and with dropout the "
    "micro-batch counts"
}

MICRO_BATCH = "trainer.micro_batch"
SEQUENCES = "sequences"  # the key of an option that depends on the micro-batch: `sequences: ${at_once:}`
WITHOUT_EFFECT_IF_EMPTY = ("parameter_groups", "trainer.skip_spikes")
ADDED_KEYS = "added_keys"  # of a class: its keys that runs before them lack, with the values that change nothing
WITHOUT_EFFECT = (
    "sweep",
    "row",
    "keep_checkpoints",
    "paths",
    "logger",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.nodes",
    "trainer.recompute",
    "trainer.log_every",
    "trainer.checkpoint_every",
)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """`cfg` as plain, fully resolved dictionaries."""
    return plain(cfg, resolve=True, throw_on_missing=True)


def effective(cfg: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The resolved config as flat `key: value` pairs, without the keys that cannot change a result.

    Evaluations that are not part of training are such keys; each has a hash of its own. So are a class's `added_keys`
    at the values that it names: the same run was recorded without them. The micro-batch is null where nothing depends
    on it. With dropout it is the number of sequences that a device takes at once, also where that follows from the
    number of devices: masks are drawn for each micro-batch of the global batch, whichever device has it. The kind of
    device is left out: `auto` is decided where a run is trained, and the record says what it was (`hardware`).
    """
    config = resolved(cfg) if isinstance(cfg, DictConfig) else cfg
    flat = _with_micro_batch(flatten(evaluations.with_those_of_training(config)))
    return {
        key: value
        for key, value in flat.items()
        if not is_without_effect(key)
        and (value or key not in WITHOUT_EFFECT_IF_EMPTY)
        and key.rpartition(".")[2] != PARTIAL
        and not _is_as_before(key, value, flat)
    }


def identity(cfg: DictConfig | dict[str, Any], data_sha256: str) -> str:
    """16 hex digits that name the result of a run: its effective config, its corpus, the schema, the code of others."""
    return _hash(effective(cfg), cfg, data_sha256)


def _hash(settings: dict[str, Any], cfg: DictConfig | dict[str, Any], data_sha256: str) -> str:
    content: dict[str, Any] = {"config": settings, "data": data_sha256, "schema": SCHEMA}
    if own := own_code(cfg):
        content["code"] = own
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def schema_reasons(one: int, other: int) -> str:
    """Why the same config gives other numbers under these two schemas, as ": since 3 ..."; empty where not known."""
    first, last = sorted((one, other))
    return "".join(f": since {schema} {reason}" for schema, reason in REASONS.items() if first < schema <= last)


def own_code(cfg: DictConfig | dict[str, Any]) -> dict[str, str]:
    """The modules outside this project that a config names, each with a hash of its source; mostly none.

    Those of evaluations that are not part of training do not count.
    """
    plain = resolved(cfg) if isinstance(cfg, DictConfig) else cfg
    return instantiation.code(evaluations.with_those_of_training(plain))


def code_changes(before: dict[str, str] | None, cfg: DictConfig | dict[str, Any]) -> list[str]:
    """A phrase for each module whose code is another than in `before`, a record's `code`."""
    now = own_code(cfg)
    return [f"the code of {name} has changed" for name in now if (before or {}).get(name) not in (None, now[name])]


def differences(one: DictConfig | dict[str, Any], other: DictConfig | dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """The effective keys in which two configs differ, as (key, value in one, value in the other)."""
    first, second = effective(one), effective(other)
    keys = sorted(first.keys() | second.keys())
    if _has_dropout(first) != _has_dropout(second) or not (_needs_micro_batch(first) and _needs_micro_batch(second)):
        keys = [key for key in keys if key != MICRO_BATCH]  # what it follows from is the difference
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def depends_on_micro_batch(cfg: DictConfig | dict[str, Any]) -> bool:
    """Whether a run with another micro-batch is another run: by its dropout, or by a part that mixes sequences."""
    return _needs_micro_batch(effective(cfg))


def former_identity(cfg: DictConfig | dict[str, Any], data_sha256: str, micro_batch: int | None) -> str:
    """The identity that a run has from when `trainer.micro_batch`, as it was written, belonged to every one."""
    return _hash({**effective(cfg), MICRO_BATCH: micro_batch}, cfg, data_sha256)


def _with_micro_batch(flat: dict[str, Any]) -> dict[str, Any]:
    """The flat config, with the micro-batch as a number where masks depend on it, and null where nothing does.

    An option that mixes sequences, or has noise of another kind, has that number as a key of its own,
    `sequences: ${at_once:}`; beside it the micro-batch stays as it is written.
    """
    if not _needs_micro_batch(flat):
        return {**flat, MICRO_BATCH: None} if MICRO_BATCH in flat else flat
    if not _has_dropout(flat):
        return flat
    try:
        return {**flat, MICRO_BATCH: share_by(flat.get).micro_batch}
    except UserError:  # a part of a config, or one that cannot be trained
        return flat


def _is_as_before(key: str, value: Any, flat: dict[str, Any]) -> bool:
    """Whether a class has got this key after its first runs were recorded, and computes at this value what it did."""
    owner, _, name = key.rpartition(".")
    target = flat.get(f"{owner}.{TARGET}")
    if not isinstance(target, str):
        return False
    added = sources.literals(target, ADDED_KEYS)
    return name in added and bool(added[name] == value)


def _needs_micro_batch(flat: dict[str, Any]) -> bool:
    return _has_dropout(flat) or any(key.rpartition(".")[2] == SEQUENCES for key in flat)


def _has_dropout(flat: dict[str, Any]) -> bool:
    return any(value for key, value in flat.items() if key.rpartition(".")[2] == "dropout" and key != "seed.dropout")


@cache
def is_without_effect(key: str) -> bool:
    """Whether a key cannot change a result, whatever its value."""
    return any(key == root or key.startswith(f"{root}.") for root in WITHOUT_EFFECT)
