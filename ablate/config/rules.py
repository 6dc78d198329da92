"""What numbers are possible: one table by the name of a key, and what several keys must make together."""

from __future__ import annotations

import re
from typing import Any

# the last part of a dotted key -> what its number must be; null is left to the option
WHOLE_FROM_ONE = re.compile(
    r"n_\w+|d_\w+|\w*_heads|head_dim|\w*steps|\w*length|vocab_size|\w*tokens|threads|nodes|micro_batch"
    r"|window|block_size|buckets|max_distance|accumulation|\w*_every"
)
SHARE_BELOW_ONE = re.compile(r"(\w+_)?dropout|label_smoothing|noise_density")
SHARE_ABOVE_ZERO = re.compile(r"early|(\w+_)?fraction")
ABOVE_ZERO = re.compile(r"eps|peak|clip_norm|mean_span|base_frequency")
NAME = re.compile(r"[A-Za-z0-9._=-]{1,100}")
KEEP = ("none", "weights", "all")


def problems(flat: dict[str, Any]) -> list[str]:
    """A line for each number that is impossible by itself, then for each that does not fit the others."""
    errors = [
        f"{key}={value}: {reason}"
        for key, value in flat.items()
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and not key.startswith("seed.")
        and (reason := _range_problem(key.rpartition(".")[2], value))
    ]
    return errors + _names(flat) + ([] if errors else _batch(flat))


def _range_problem(name: str, value: float) -> str:
    if WHOLE_FROM_ONE.fullmatch(name) and (value < 1 or value != int(value)):
        return "must be a whole number, 1 or more"
    if SHARE_BELOW_ONE.fullmatch(name) and not 0 <= value < 1:
        return "must be at least 0 and below 1"
    if SHARE_ABOVE_ZERO.fullmatch(name) and not 0 < value <= 1:
        return "must be above 0 and at most 1"
    if ABOVE_ZERO.fullmatch(name) and not value > 0:
        return "must be above 0"
    return ""


def _names(flat: dict[str, Any]) -> list[str]:
    errors = []
    sweep, row = str(flat.get("sweep")), str(flat.get("row"))
    if not NAME.fullmatch(sweep) or set(sweep) == {"."}:
        errors.append(f"sweep={sweep!r}: a name has 1 to 100 letters, digits, and any of . _ = -")
    if not row.isprintable() or "${" in row:
        errors.append(f"row={row!r}: a label is one line of printable text")
    if flat.get("keep") not in KEEP:
        errors.append(f"keep={flat.get('keep')}: must be one of {', '.join(KEEP)}")
    return errors


def _batch(flat: dict[str, Any]) -> list[str]:
    """Whether the global batch can be made of whole sequences, shared by all devices and micro-batches."""
    tokens, length = flat.get("trainer.global_batch_tokens"), flat.get("objective.length")
    if tokens is None or length is None:
        return []
    batch = f"trainer.global_batch_tokens={tokens}"
    if tokens % length:
        return [f"{batch} makes {tokens / length:g} sequences of objective.length={length}; it must be whole"]
    sequences = tokens // length
    devices = [flat.get(key) for key in ("trainer.devices", "trainer.nodes")]
    ranks = 1
    for count in devices:
        ranks *= count if isinstance(count, int) else 1
    if sequences % ranks:
        return [f"{batch} makes {sequences} sequences, which {ranks} devices cannot share equally"]
    micro = flat.get("trainer.micro_batch")
    if micro and (sequences // ranks) % micro:
        return [
            f"trainer.micro_batch={micro} does not divide the {sequences // ranks} sequences that each device has"
        ]
    return []
