"""Induction: what followed a mark the first time follows it again."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from ablate.data.made_up.sequences import MadeUp
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.ranges import COUNT, Ranges, check


class Induction(MadeUp):
    """A mark at a random place, and again at the end, where the token that followed it is the target (Dao et al. 2022,
    "Hungry Hungry Hippos", https://arxiv.org/abs/2212.14052, section 3).

    The mark is one id, the same in all rows; all other positions hold one of `ids` ids at random.
    """

    ranges: ClassVar[Ranges] = {"ids": COUNT}

    def __init__(self, layout: Layout, stacks: Collection[str], documents: bool, length: int, ids: int):
        super().__init__(layout, stacks, documents, length)
        check(type(self), "objective", ids=ids)
        if length < 3:
            raise UserError(f"objective.length={length}: a mark, what follows it and the question need 3 positions")
        marks, self.ids = self._ids(marks=1, ids=ids)
        self.mark, self.chance = marks[0], 1 / ids

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = self.ids[rng.integers(0, len(self.ids), (rows, self.length))]
        place = rng.integers(0, self.length - 2, rows)
        row = np.arange(rows)
        ids[row, place] = ids[:, -1] = self.mark
        targets, scored = np.zeros_like(ids), np.zeros(ids.shape, bool)
        targets[:, -1], scored[:, -1] = ids[row, place + 1], True
        return ids, targets, scored
