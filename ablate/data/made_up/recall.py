"""Multi-query associative recall: which value has followed which key, asked for every key."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from ablate.data.made_up.sequences import MadeUp, distinct, put, weighted_distinct
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.ranges import COUNT, POSITIVE, Ranges, check


class Recall(MadeUp):
    """Multi-query associative recall (Arora et al. 2023, "Zoology", https://arxiv.org/abs/2312.04927).

    A row begins with `pairs` keys, each followed by its value; then each key comes once more, and its value is the
    target there. The gap g = 1, 2, ... from the pairs to a question has a probability proportional to g^(power - 1), no
    two questions at one place: with a small `power` most are near, as in text. All other positions hold fillers at
    random. `keys`, `values` and `fillers` are how many ids of each there are; in a row all keys differ, and all values
    do.
    """

    ranges: ClassVar[Ranges] = {"pairs": COUNT, "keys": COUNT, "values": COUNT, "fillers": COUNT, "power": POSITIVE}

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
        power: float,
    ):
        super().__init__(layout, stacks, documents, length)
        check(type(self), "objective", pairs=pairs, keys=keys, values=values, fillers=fillers, power=power)
        if length < 3 * pairs:
            raise UserError(
                f"objective.pairs={pairs} and a question for each need {3 * pairs} positions, and "
                f"objective.length={length}; choose fewer pairs or a longer sequence"
            )
        check_pairs(pairs, keys, values)
        self.keys, self.values, self.fillers = self._ids(keys=keys, values=values, fillers=fillers)
        self.pairs, self.chance = pairs, 1 / pairs
        self.weights = np.arange(1, length - 2 * pairs + 1, dtype=float) ** (power - 1)  # of the gaps

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids = self.fillers[rng.integers(0, len(self.fillers), (rows, self.length))]
        keys = distinct(rng, rows, self.pairs, self.keys)
        values = distinct(rng, rows, self.pairs, self.values)
        end = 2 * self.pairs
        ids[:, 0:end:2], ids[:, 1:end:2] = keys, values
        places = end + weighted_distinct(rng, rows, self.pairs, self.weights)
        targets, scored = ids.copy(), np.zeros(ids.shape, bool)
        put(ids, places, keys)
        put(targets, places, values)
        np.put_along_axis(scored, places, True, axis=1)
        return ids, targets, scored


def check_pairs(pairs: int, keys: int, values: int) -> None:
    """Raise `UserError` where there are fewer keys, or values, than a row needs."""
    for key, count in (("keys", keys), ("values", values)):
        if count < pairs:
            raise UserError(f"objective.{key}={count}: {pairs} pairs with different {key} need {pairs} or more")
