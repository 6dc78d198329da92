"""Multi-query associative recall: which value has followed which key, asked for every key."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ablate.data.made_up.pairs import Pairs
from ablate.data.made_up.sequences import put, weighted_distinct
from ablate.ranges import POSITIVE, Ranges, check


class Recall(Pairs):
    """Multi-query associative recall (Arora et al. 2023, "Zoology", https://arxiv.org/abs/2312.04927).

    A row begins with `pairs` keys, each followed by its value; then each key comes once more, and its value is the
    target there. The gap g = 1, 2, ... from the pairs to a question has a probability proportional to g^(power - 1), no
    two questions at one place: with a small `power` most are near, as in text. All other positions hold fillers at
    random.
    """

    ranges: ClassVar[Ranges] = {"power": POSITIVE}
    asked = "a question for each"

    def __init__(self, *of_all: Any, power: float, **of_pairs: Any):
        check(type(self), "objective", power=power)
        super().__init__(*of_all, **of_pairs)
        self.weights = np.arange(1, self.length - 2 * self.pairs + 1, dtype=float) ** (power - 1)  # of the gaps

    @staticmethod
    def questions(pairs: int) -> int:
        """One for each pair."""
        return pairs

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids, keys, values = self._begun(rows, rng)
        end = 2 * self.pairs
        ids[:, 0:end:2], ids[:, 1:end:2] = keys, values
        places = end + weighted_distinct(rng, rows, self.pairs, self.weights)
        targets, scored = ids.copy(), np.zeros(ids.shape, bool)
        put(ids, places, keys)
        put(targets, places, values)
        np.put_along_axis(scored, places, True, axis=1)
        return ids, targets, scored
