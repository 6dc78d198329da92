"""What numbers are possible: one table by the name of a key, and what several keys must make together."""

from __future__ import annotations

import re
from typing import Any

from ablate.config.batch import share_by
from ablate.errors import UserError, nearest
from ablate.naming import is_sweep_name

# the last part of a dotted key -> what its number must be; null is left to the option
RANGES = (
    (
        re.compile(
            r"n_\w+|d_\w+|head_dim|\w*steps|\w*length|vocab_size|\w*tokens|threads|devices|nodes|micro_batch"
            r"|window|stride|block_size|max_distance|\w*_every|sequences|min_capacity|width|rank"
        ),
        lambda value: value >= 1 and value == int(value),
        "a whole number, 1 or more",
    ),
    (
        re.compile(r"steps_before|steps_after"),
        lambda value: value >= 0 and value == int(value),
        "a whole number, 0 or more",
    ),
    (re.compile(r"(\w+_)?dropout|label_smoothing"), lambda value: 0 <= value < 1, "at least 0 and below 1"),
    (re.compile(r"noise_density|probability"), lambda value: 0 < value < 1, "above 0 and below 1"),
    (re.compile(r"early|fraction"), lambda value: 0 < value <= 1, "above 0 and at most 1"),
    (re.compile(r"warmup|decay|final"), lambda value: 0 <= value <= 1, "from 0 to 1"),
    (re.compile(r"base|max_timescale"), lambda value: value > 1, "above 1"),
    (
        re.compile(r"eps|epsilon|peak|rate_scale|step_scale|timescale|clip_norm|mean_span"),
        lambda value: value > 0,
        "above 0",
    ),
)
CHOICES = {
    "keep": ("none", "weights", "all"),
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.precision": ("fp32", "bf16"),
    "trainer.compile": ("none", "model"),
    "data.on_error": ("fail", "skip"),
}


def problems(flat: dict[str, Any]) -> list[str]:
    """A line for each value that is impossible by itself, then for each that does not fit the others."""
    errors = [
        f"{key}={value}: {reason}"
        for key, value in flat.items()
        if not key.startswith("seed.") and (reason := _range_problem(key.rpartition(".")[2], value))
    ]
    return errors + _words(flat) + ([] if errors else _lengths(flat) + _documents(flat) + _heads(flat) + _batch(flat))


def _range_problem(name: str, value: Any) -> str:
    for names, fits, wanted in RANGES:
        if not names.fullmatch(name) or isinstance(value, (dict, list)) or value is None:
            continue
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return "" if is_number and fits(value) else f"must be {wanted}"
    return ""


def _words(flat: dict[str, Any]) -> list[str]:
    errors = []
    sweep, row = str(flat.get("sweep")), str(flat.get("row"))
    if not is_sweep_name(sweep):
        errors.append(f"sweep={sweep!r}: a name has 1 to 100 letters, digits, and any of . _ = -, and no dot in front")
    if not row.isprintable():
        errors.append(f"row={row!r}: a label is one line of printable text")
    for key, choices in CHOICES.items():
        if key in flat and flat[key] not in choices:
            errors.append(f"{key}={flat[key]}: must be one of {', '.join(choices)}{nearest(str(flat[key]), choices)}")
    return errors


def _lengths(flat: dict[str, Any]) -> list[str]:
    """Whether what bounds a sequence's length is as long as the sequences."""
    length = flat.get("objective.length", 0)
    errors = [
        f"objective.length={length} is longer than {key}={value}"
        for key, value in flat.items()
        if key.endswith(".max_length") and isinstance(value, int) and value < length
    ]
    for key, groups in flat.items():  # of layers in a funnel, each of which but the first halves the length
        if key.endswith(".n_blocks") and isinstance(groups, int) and length % 2 ** (groups - 1):
            errors.append(
                f"{key}={groups} halves objective.length={length} {groups - 1} times; it must be a multiple of {2 ** (groups - 1)}"
            )
    return errors


def _documents(flat: dict[str, Any]) -> list[str]:
    """Whether convolutions keep apart what attention is told to keep apart."""
    if not flat.get("data.document_mask"):
        return []
    return [
        f"data.document_mask=true keeps documents apart, and {key}=false reads across their borders; set {key}=true"
        for key, value in flat.items()
        if key.endswith(".within_segments") and value is False
    ]


def _heads(flat: dict[str, Any]) -> list[str]:
    """Whether the heads of every attention divide into groups that share keys and values."""
    errors = []
    for key, groups in flat.items():
        if not key.endswith(".n_kv_heads"):
            continue
        heads_key = f"{key.removesuffix('n_kv_heads')}n_heads"
        heads = flat.get(heads_key)
        if isinstance(groups, int) and isinstance(heads, int) and heads % groups:
            errors.append(f"{heads_key}={heads} do not divide into {key}={groups} groups")
    return errors


def _batch(flat: dict[str, Any]) -> list[str]:
    """Whether the global batch can be made of whole sequences, shared by all devices and micro-batches."""
    if flat.get("trainer.global_batch_tokens") is None or flat.get("objective.length") is None:
        return []
    try:
        share_by(flat.get)
    except UserError as error:
        return [str(error)]
    return []
