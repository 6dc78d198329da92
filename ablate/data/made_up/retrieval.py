"""Key-value retrieval: one question at the end, about a key that stands anywhere before it."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from ablate.data.made_up.recall import check_pairs
from ablate.data.made_up.sequences import MadeUp, distinct, put
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.ranges import COUNT, Ranges, check


class Retrieval(MadeUp):
    """One of many keys is asked at the end (after Liu et al. 2023, "Lost in the middle",
    https://arxiv.org/abs/2307.03172).

    `pairs` of a key and its value stand at random places of a row, which do not overlap, with fillers between
    them. The last input is one of the keys, each equally likely, and its value is the target, the only one of the
    row. How often it is right by where the key stands is the curve of the evaluation `target_accuracy`.
    """

    ranges: ClassVar[Ranges] = {"pairs": COUNT, "keys": COUNT, "values": COUNT, "fillers": COUNT}

    def __init__(
        self,
        layout: Layout,
        stacks: Collection[str],
        documents: bool,
        length: int,
        pairs: int,
        keys: int,
        values: int,
        fillers: int,
    ):
        super().__init__(layout, stacks, documents, length)
        check(type(self), "objective", pairs=pairs, keys=keys, values=values, fillers=fillers)
        if length < 2 * pairs + 1:
            raise UserError(
                f"objective.pairs={pairs} and a question need {2 * pairs + 1} positions, and "
                f"objective.length={length}; choose fewer pairs or a longer sequence"
            )
        check_pairs(pairs, keys, values)
        self.keys, self.values, self.fillers = self._ids(keys=keys, values=values, fillers=fillers)
        self.pairs, self.chance = pairs, 1 / pairs

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = self.fillers[rng.integers(0, len(self.fillers), (rows, self.length))]
        keys = distinct(rng, rows, self.pairs, self.keys)
        values = distinct(rng, rows, self.pairs, self.values)
        # Each pair counts as one slot: of the slots before the question some hold a pair. The pair in the i-th of them
        # begins i positions later, because each pair before it takes two positions.
        slots = np.arange(self.length - 1 - self.pairs)
        places = np.sort(distinct(rng, rows, self.pairs, slots), axis=1) + np.arange(self.pairs)
        put(ids, places, keys)
        put(ids, places + 1, values)
        asked = rng.integers(0, self.pairs, (rows, 1))
        targets, scored = ids.copy(), np.zeros(ids.shape, bool)
        ids[:, -1:] = np.take_along_axis(keys, asked, axis=1)
        targets[:, -1:] = np.take_along_axis(values, asked, axis=1)
        scored[:, -1] = True
        return ids, targets, scored
