"""Key-value retrieval: one question at the end, about a key that stands anywhere before it."""

from __future__ import annotations

import numpy as np

from ablate.data.made_up.pairs import Pairs
from ablate.data.made_up.sequences import distinct, put


class Retrieval(Pairs):
    """One of many keys is asked at the end (after Liu et al. 2023, "Lost in the middle",
    https://arxiv.org/abs/2307.03172).

    `pairs` of a key and its value stand at random places of a row, which do not overlap, with fillers between
    them. The last input is one of the keys, each equally likely, and its value is the target, the only one of the
    row. How often it is right by where the key stands is the curve of the evaluation `target_accuracy`.
    """

    asked = "a question"

    @staticmethod
    def questions(pairs: int) -> int:
        """One, whatever the number of pairs."""
        return 1

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ids, keys, values = self._begun(rows, rng)
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
