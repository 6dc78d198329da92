"""Examples as ids: cut to the lengths that a model takes, each end marked; and how many had to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ablate.data.tokenizer_backends import Tokenizer
from ablate.errors import UserError
from ablate.tasks.example import Example

Ids = np.ndarray
SEAMS = 4  # tokens that stretches may have more than the whole, where a word and the space before it are apart


@dataclass(frozen=True)
class Encoded:
    """An example's input, and each of its targets; all end with the end-of-sequence."""

    inputs: Ids
    targets: tuple[Ids, ...]


@dataclass
class Encoder:
    """Encodes examples; `cut` counts the inputs and targets that did not fit, by part.

    input_length, target_length: the most ids of either, with the end-of-sequence.
    """

    tokenizer: Tokenizer
    eos_id: int
    input_length: int
    target_length: int
    cut: dict[str, int] = field(default_factory=dict)

    def encode(self, examples: Sequence[Example], part: str) -> list[Encoded]:
        """The examples of a part ("train", "validation") as ids."""
        inputs = self._inputs(examples, part)
        flat = [target for example in examples for target in example.targets]
        targets = iter(self._encoded(flat))
        found = []
        for ids, example in zip(inputs, examples, strict=True):
            own = [next(targets) for _ in example.targets]
            self._count(f"{part} targets", sum(len(target) > self.target_length - 1 for target in own))
            found.append(Encoded(ids, tuple(self._ended(target[: self.target_length - 1]) for target in own)))
        return found

    def _inputs(self, examples: Sequence[Example], part: str) -> list[Ids]:
        """Inputs as they are or, where they are too long, in stretches, of which the passage is cut.

        Most that do not fit are known by their stretches, of which many are shared: a long passage is encoded once.
        """
        room = self.input_length - 1
        if room < 1:
            raise UserError(f"an input of {self.input_length} tokens has no room for text")
        stretches = self._stretches(examples)
        fitting = [number for number, parts in enumerate(stretches) if sum(map(len, parts)) <= room + SEAMS]
        whole = self._encoded([examples[number].inputs for number in fitting])
        found = {number: ids for number, ids in zip(fitting, whole, strict=True) if len(ids) <= room}
        self._count(f"{part} inputs", len(examples) - len(found))
        return [
            self._ended(found[number] if number in found else _cut(*parts, room))
            for number, parts in enumerate(stretches)
        ]

    def _stretches(self, examples: Sequence[Example]) -> list[tuple[Ids, Ids, Ids]]:
        texts = [(example.before, example.passage, example.after) for example in examples]
        each = list(dict.fromkeys(text for three in texts for text in three))
        ids = dict(zip(each, self._encoded(each), strict=True))
        return [(ids[before], ids[passage], ids[after]) for before, passage, after in texts]

    def _encoded(self, texts: list[str]) -> list[Ids]:
        return list(self.tokenizer.encode(texts)) if texts else []

    def _ended(self, ids: Ids) -> Ids:
        return np.append(ids, ids.dtype.type(self.eos_id))

    def _count(self, what: str, number: int) -> None:
        if number:
            self.cut[what] = self.cut.get(what, 0) + number


def _cut(before: Ids, passage: Ids, after: Ids, room: int) -> Ids:
    """The three stretches in `room` ids, the end of the passage left out first."""
    kept = passage[: max(0, room - len(before) - len(after))]
    return np.concatenate([before, kept, after])[:room]
