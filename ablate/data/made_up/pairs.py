"""What recall and retrieval share: keys, each with a value, among fillers."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from ablate.data.made_up.sequences import MadeUp, distinct
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.ranges import COUNT, Ranges, check


class Pairs(MadeUp):
    """Sequences with `pairs` of a key and its value. `keys`, `values` and `fillers` are how many ids of each there are;
    in a row all keys differ, and all values do.

    Subclasses say in `asked` what is asked, and in `questions` how many positions that takes.
    """

    ranges: ClassVar[Ranges] = {"pairs": COUNT, "keys": COUNT, "values": COUNT, "fillers": COUNT}
    asked: ClassVar[str]

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
        needed = 2 * pairs + self.questions(pairs)
        if length < needed:
            raise UserError(
                f"objective.pairs={pairs} and {self.asked} need {needed} positions, and objective.length={length}; "
                "choose fewer pairs or a longer sequence"
            )
        for key, count in (("keys", keys), ("values", values)):
            if count < pairs:
                raise UserError(f"objective.{key}={count}: {pairs} pairs with different {key} need {pairs} or more")
        self.keys, self.values, self.fillers = self._ids(keys=keys, values=values, fillers=fillers)
        self.pairs, self.chance = pairs, 1 / pairs

    @staticmethod
    def questions(pairs: int) -> int:
        """The number of questions about so many pairs, each at a position of its own."""
        raise NotImplementedError

    def _begun(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fillers (rows, length), keys and values (rows, pairs), drawn in this order."""
        ids = self.fillers[rng.integers(0, len(self.fillers), (rows, self.length))]
        return ids, distinct(rng, rows, self.pairs, self.keys), distinct(rng, rows, self.pairs, self.values)
