"""Copying: a block of random tokens comes again."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from ablate.data.made_up.sequences import MadeUp, distinct
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.ranges import COUNT, Ranges, check


class Copying(MadeUp):
    """A block of random tokens, and the block again, in which each next token is to be known: the repeated random
    sequences on which induction heads show (Olsson et al. 2022, https://arxiv.org/abs/2209.11895).

    The second copy, of `block` tokens, ends the row; the first is at a random place before it, so that no fixed
    distance copies. All tokens outside the second copy are different ones of `ids` ids. Scored are the positions of the
    second copy but the last, whose next token nothing tells.
    """

    ranges: ClassVar[Ranges] = {"block": COUNT, "ids": COUNT}

    def __init__(self, layout: Layout, stacks: Collection[str], documents: bool, length: int, block: int, ids: int):
        super().__init__(layout, stacks, documents, length)
        check(type(self), "objective", block=block, ids=ids)
        if not 2 <= block <= length // 2:
            raise UserError(
                f"objective.block={block}: a block has 2 tokens or more, and twice it must go into "
                f"objective.length={length}"
            )
        if ids < length - block:
            raise UserError(f"objective.ids={ids}: {length - block} different tokens need {length - block} or more")
        (self.ids,) = self._ids(ids=ids)
        self.block, self.chance = block, 1 / block

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start = self.length - self.block  # of the second copy
        ids = np.empty((rows, self.length), np.int64)
        ids[:, :start] = distinct(rng, rows, start, self.ids)
        first = rng.integers(0, start - self.block + 1, (rows, 1)) + np.arange(self.block)  # (rows, block)
        ids[:, start:] = np.take_along_axis(ids, first, axis=1)
        targets, scored = np.zeros_like(ids), np.zeros(ids.shape, bool)
        targets[:, :-1] = ids[:, 1:]
        scored[:, start:-1] = True
        return ids, targets, scored
