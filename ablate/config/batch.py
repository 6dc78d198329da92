"""How the global batch is shared: sequences = ranks x accumulation x micro-batch, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.errors import UserError

KEYS = ("trainer.global_batch_tokens", "objective.length", "trainer.devices", "trainer.nodes")


@dataclass(frozen=True)
class Share:
    """What one rank takes of a global batch: `accumulation` of `count` equal slices."""

    sequences: int
    ranks: int
    accumulation: int

    @property
    def count(self) -> int:
        """Slices of a global batch."""
        return self.ranks * self.accumulation

    @property
    def micro_batch(self) -> int:
        """Sequences of a slice."""
        return self.sequences // self.count

    def slices(self, rank: int) -> range:
        """The slices of one rank; the ranks' slices together are the global batch."""
        return range(rank * self.accumulation, (rank + 1) * self.accumulation)


def share(cfg: DictConfig) -> Share:
    """How a config shares its batch; raises `UserError` with the numbers where it does not come out."""
    return share_by(partial(OmegaConf.select, cfg))


def share_by(at: Callable[[str], Any]) -> Share:
    """The same, `at("trainer.devices")` being the value of a key."""
    tokens, length, devices, nodes = (_number(key, at(key)) for key in KEYS)
    batch = f"trainer.global_batch_tokens={tokens}"
    if tokens % length:
        raise UserError(f"{batch} must be a multiple of objective.length={length}")
    sequences = tokens // length
    ranks = devices * nodes
    if sequences % ranks:
        raise UserError(f"{batch} makes {sequences} sequences, which {ranks} devices cannot share equally")
    each = sequences // ranks
    micro = at("trainer.micro_batch")
    micro = each if micro is None else _number("trainer.micro_batch", micro)
    if each % micro:
        raise UserError(f"trainer.micro_batch={micro} does not divide the {each} sequences that each device has")
    return Share(sequences, ranks, each // micro)


def _number(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key}={value}: must be a whole number, 1 or more")
    return value
