"""Which examples a step trains on: a pure function of (seed, step), whatever was trained before.

An epoch of the mixture takes from each task as many examples as it has, `cap` at most, in a shuffled order over all
tasks: in proportion to the numbers of examples (Raffel et al. 2020, section 3.5.2), and each example of a task that is
not capped exactly once. Of a task that is, the next epoch goes on where this one ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.data.permutation import permute
from ablate.fine_tuning.encoding import Encoded
from ablate.fine_tuning.forms import Pair


@dataclass(frozen=True)
class Draw:
    """One example: of which task, which of its examples, and in which epoch over them."""

    task: str
    index: int
    epoch: int


class Mixture:
    """The order in which the examples of several tasks are trained on."""

    def __init__(self, sizes: Mapping[str, int], cap: int | None, seed: int):
        self.sizes = dict(sizes)
        self.shares = {task: size if cap is None else min(size, cap) for task, size in sizes.items()}
        self.tasks = list(self.sizes)
        self.ends = np.cumsum(list(self.shares.values()))
        self.seed = seed

    @property
    def epoch_size(self) -> int:
        """Examples in an epoch of the mixture."""
        return int(self.ends[-1])

    def at(self, place: int) -> Draw:
        """What is trained on at a place of the endless sequence of epochs, counted from 0."""
        epoch, inside = divmod(place, self.epoch_size)
        number = int(permute(np.array([inside]), self.epoch_size, self.seed, epoch)[0])
        which = int(np.searchsorted(self.ends, number, side="right"))
        task = self.tasks[which]
        share, size = self.shares[task], self.sizes[task]
        taken = epoch * share + number - (int(self.ends[which]) - share)  # of this task's own endless sequence
        own_epoch, at = divmod(taken, size)
        index = int(permute(np.array([at]), size, self.seed + 1 + which, own_epoch)[0]) if share < size else at
        return Draw(task, index, own_epoch)

    def step(self, step: int, sequences: int) -> list[Draw]:
        """The examples of a step, counted from 0."""
        return [self.at(place) for place in range(step * sequences, (step + 1) * sequences)]


def pairs(draws: Sequence[Draw], examples: Mapping[str, Sequence[Encoded]]) -> list[Pair]:
    """Inputs and answers; of several answers one epoch takes the first, the next the second, and so on."""
    found = []
    for draw in draws:
        example = examples[draw.task][draw.index]
        found.append((example.inputs, example.targets[draw.epoch % len(example.targets)]))
    return found
