"""What made-up sequences share: their ids, and draws of a whole batch at once.

recall      k1 v1 k2 v2 .. .. k2 .. .. k1         every key is asked once; its value is the target
retrieval   .. k1 v1 .. .. k2 v2 .. k3 v3 k2      one key is asked, at the end
copying     .. a b c d .. .. .. .. a b c d        a block comes again; each token of it follows from the first time
induction   .. .. .. ! a .. .. .. .. .. .. !      what has followed the mark is asked at the end

In all of them the target of a position is the token that has followed the earlier occurrence of its input id, and a
position's input is the id itself: nothing is shifted, no start symbol comes first. `..` are fillers, which answer
nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import numpy as np

from ablate.data.objective import Arrays, Objective
from ablate.data.vocabulary import Layout
from ablate.errors import UserError


class MadeUp(Objective):
    """Sequences that follow from seed and step alone, for a causal decoder: of the windows only their number is read.

    Subclasses define `draw`, and set `chance`: how often one is right who guesses among the answers that a sequence
    may have, without a look at which of them belongs to the question.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"decoder_ids"})
    targets_are_text = False

    def __init__(self, layout: Layout, stacks: Collection[str], documents: bool, length: int):
        super().__init__(layout, stacks, documents, length)
        if documents:
            raise UserError(
                "data.document_mask=true: made-up sequences have no documents; set data.document_mask=false"
            )
        self.raw_length = 1

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        ids, targets, scored = self.draw(len(windows), rng)
        return {"decoder_ids": ids, "targets": np.where(scored, targets, self.layout.pad_id), "scored": scored}

    def draw(self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input ids and targets, int64, and whether a position is scored, bool; each (rows, length)."""
        raise NotImplementedError

    def _ids(self, **counts: int) -> list[np.ndarray]:
        """Separate ranges of ids, one for each key of the config, of so many ids as it says.

        Raises `UserError` where the vocabulary has fewer pieces of text.
        """
        usable = np.setdiff1d(np.arange(self.layout.text_size), [self.layout.pad_id, self.layout.eos_id])
        wanted = sum(counts.values())
        if wanted > len(usable):
            asked = " and ".join(f"objective.{key}={count}" for key, count in counts.items())
            raise UserError(
                f"{asked}: the vocabulary has {len(usable)} ids for them; lower them, or raise tokenizer.vocab_size"
            )
        return np.split(usable[:wanted], np.cumsum([*counts.values()])[:-1])


def distinct(rng: np.random.Generator, rows: int, count: int, among: np.ndarray) -> np.ndarray:
    """(rows, count): in each row `count` different ones of `among`, in random order, all draws equally likely."""
    return among[np.argsort(rng.random((rows, len(among))), axis=1)[:, :count]]


def weighted_distinct(rng: np.random.Generator, rows: int, count: int, weights: np.ndarray) -> np.ndarray:
    """(rows, count): in each row `count` different indices of `weights`, drawn in turn in proportion to them.

    Clocks that ring after exponential times of rates `weights` ring in just this order.
    """
    return np.argsort(rng.standard_exponential((rows, len(weights))) / weights, axis=1)[:, :count]


def put(ids: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
    """Write `values` (rows, n) at `places` (rows, n) of `ids` (rows, length)."""
    np.put_along_axis(ids, places, values, axis=1)
