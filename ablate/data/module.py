"""Batches as Lightning takes them."""

from __future__ import annotations

from collections.abc import Iterator

import lightning.pytorch as L

from ablate.data.batches import Batch, Batches

__all__ = ["Batches", "DataModule"]


class DataModule(L.LightningDataModule):
    """The micro-batches of this process, from the step that the trainer stands at, without end.

    accumulation: micro-batches that a process takes a step. There is no loader state: a batch follows from its step.
    """

    def __init__(self, batches: Batches, accumulation: int = 1):
        super().__init__()
        self.batches, self.accumulation = batches, accumulation

    def train_dataloader(self) -> Iterator[Batch]:
        """One micro-batch at a time; what all processes take in a step is the step's global batch."""
        step, rank = self.trainer.global_step, self.trainer.global_rank
        count = self.trainer.world_size * self.accumulation
        while True:
            for index in range(rank * self.accumulation, (rank + 1) * self.accumulation):
                yield self.batches.micro(step, index, count)
            step += 1
