"""An example of a text task: what a model reads, what it should write, and what its answer is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """One text to read and the texts that may be written.

    id: the same wherever the same file is read.
    before, passage, after: the input in three stretches. Where it is too long, the end of `passage` is cut, so that a
        question behind a long passage is never lost.
    targets: what is learned; of several, one in each epoch.
    answers: what the metric accepts; `targets`, if empty.
    group: what belongs together when items are judged (the question of a MultiRC answer) or drawn (its passage).
    split_key: the text by which a validation part is held out: examples that share it are in the same part.
    is_trained_on: False for what is only judged, such as the wrong referents of WSC.
    """

    id: str
    before: str
    passage: str
    after: str
    targets: tuple[str, ...]
    answers: tuple[str, ...] = ()
    group: str = ""
    split_key: str = ""
    is_trained_on: bool = True

    @property
    def inputs(self) -> str:
        """The whole input."""
        return self.before + self.passage + self.after

    @property
    def accepted(self) -> tuple[str, ...]:
        """What the metric accepts."""
        return self.answers or self.targets


@dataclass(frozen=True)
class Judged:
    """What the outputs for a task came to.

    value: the task's official score in per cent; metrics: those it is the mean of (or others beside it), by name.
    items: the score of each item, 0 to 1, in the order of `ids`.
    standard_error: of `value`, over the items; None where it is not known.
    scorer: the metric's name, version or signature.
    """

    value: float
    metrics: Mapping[str, float]
    ids: Sequence[str]
    items: Sequence[float]
    standard_error: float | None
    scorer: str


@dataclass(frozen=True)
class Parts:
    """The examples of a task: those to train on, those to judge by, and `source`: which files and which split."""

    train: list[Example]
    validation: list[Example]
    source: dict[str, Any] = field(default_factory=dict)
