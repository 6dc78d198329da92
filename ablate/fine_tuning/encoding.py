"""Examples as ids: cut to the lengths that a model takes, each end marked; and how many had to be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ablate.data.tokenizer_backends import Tokenizer
from ablate.errors import UserError
from ablate.tasks.example import Example

Ids = np.ndarray


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
        targets = iter(self.tokenizer.encode(flat) if flat else [])
        found = []
        for ids, example in zip(inputs, examples, strict=True):
            own = [next(targets) for _ in example.targets]
            self._count(f"{part} targets", sum(len(target) > self.target_length - 1 for target in own))
            found.append(Encoded(ids, tuple(self._ended(target[: self.target_length - 1]) for target in own)))
        return found

    def _inputs(self, examples: Sequence[Example], part: str) -> list[Ids]:
        room = self.input_length - 1
        if room < 1:
            raise UserError(f"an input of {self.input_length} tokens has no room for text")
        found = self.tokenizer.encode([example.inputs for example in examples]) if examples else []
        long = [number for number, ids in enumerate(found) if len(ids) > room]
        for number in long:
            example = examples[number]
            before, passage, after = self.tokenizer.encode([example.before, example.passage, example.after])
            kept = passage[: max(0, room - len(before) - len(after))]
            found[number] = np.concatenate([before, kept, after])[:room]
        self._count(f"{part} inputs", len(long))
        return [self._ended(ids) for ids in found]

    def _ended(self, ids: Ids) -> Ids:
        return np.append(ids, ids.dtype.type(self.eos_id))

    def _count(self, what: str, number: int) -> None:
        if number:
            self.cut[what] = self.cut.get(what, 0) + number
