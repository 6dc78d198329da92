"""How the global batch is shared: sequences = ranks x accumulation x micro-batch, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from omegaconf import DictConfig
from torch import Tensor

from ablate.errors import UserError


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

    def slices(self, rank: int) -> range:
        """The slices of one rank; the ranks' slices together are the global batch."""
        return range(rank * self.accumulation, (rank + 1) * self.accumulation)


def share(cfg: DictConfig) -> Share:
    """How `trainer` shares its batch; raises `UserError` with the numbers where it does not come out."""
    trainer, length = cfg.trainer, cfg.objective.length
    tokens, ranks = trainer.global_batch_tokens, trainer.devices * trainer.nodes
    sequences, rest = divmod(tokens, length)
    if rest or not sequences:
        raise UserError(f"trainer.global_batch_tokens={tokens}: no whole number of sequences of {length} tokens")
    each, rest = divmod(sequences, ranks)
    if rest or not each:
        raise UserError(f"trainer.global_batch_tokens={tokens}: {sequences} sequences cannot be shared by {ranks} devices")
    micro = trainer.micro_batch or each
    accumulation, rest = divmod(each, micro)
    if rest or not accumulation:
        raise UserError(
            f"trainer.micro_batch={micro}: {sequences} sequences on {ranks} devices are {each} each, "
            f"which no number of micro-batches of {micro} makes"
        )
    return Share(sequences, ranks, accumulation)


class Steps:
    """The micro-batches of one rank, a list a step, from a step on and without end.

    `micro(step, index, count)` gives slice `index` of `count` of the global batch of `step`: a pure function, so that
    there is no state to save.
    """

    def __init__(self, micro: Callable[[int, int, int], dict[str, Tensor]], shared: Share, rank: int, start: int) -> None:
        self.micro, self.share, self.rank, self.start = micro, shared, rank, start

    def __iter__(self) -> Iterator[list[dict[str, Tensor]]]:
        step = self.start
        while True:
            yield [self.micro(step, index, self.share.count) for index in self.share.slices(self.rank)]
            step += 1
