"""A task: from rows to examples, from outputs to a score; and where its two parts come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.tasks import readers
from ablate.tasks.example import Example, Judged, Parts
from ablate.tasks.metrics.generation import extra
from ablate.tasks.splits import HELD_OUT, divided

TRAIN, VALIDATION = ("train",), ("val", "validation", "dev")  # beginnings of names of files

Reader = Callable[[Iterable[readers.Row]], list[Example]]
Judge = Callable[[Sequence[Example], Sequence[str]], Judged]
Constants = Callable[[Sequence[Example]], Sequence[str]]


def each(of: Callable[[readers.Row], Example]) -> Reader:
    """A reader of files that have a row an item."""
    return lambda rows: [of(row) for row in rows]


@dataclass(frozen=True)
class Task:
    """name: of its score; folder: below that of the data; examples: of rows; judge: of outputs, a score in per cent.

    constants: of training examples, the outputs among which the best constant one is chance level.
    subset: of the data set of the Hub.
    package: what the judge needs beside this project's own dependencies.
    """

    name: str
    folder: str
    examples: Reader
    judge: Judge
    constants: Constants
    subset: str | None = None
    package: str | None = None

    def check(self) -> None:
        """Raise UserError where the judge's package is not installed."""
        if self.package is not None:
            extra(self.package)

    def chance(self, train: Sequence[Example], validation: Sequence[Example]) -> float:
        """What the best constant output scores on the validation part, in per cent."""
        constants = self.constants(train)
        return max(self.judge(validation, [constant] * len(validation)).value for constant in constants)

    def parts(self, data: str, hub: str | None, key: str) -> Parts:
        """Its examples from the folder `data`, or from the data set `hub` of the Hub; `key` names the option.

        Where there is no validation file a fifth of the training passages is held out. Raises UserError for what
        cannot be read, and where a part is empty.
        """
        if hub:
            return checked(self.name, from_hub(self.examples, hub, self.subset, key), key)
        folder = Path(data) / self.folder
        train = readers.files_of(folder, TRAIN, f"{key}.data")
        if train is None:
            raise UserError(f"{key}.data: {folder} has no train.jsonl (or train.jsonl.gz)")
        validation = readers.files_of(folder, VALIDATION, f"{key}.data")
        return checked(self.name, from_files(self.examples, train, validation, folder), key)


def checked(name: str, parts: Parts, key: str) -> Parts:
    """The parts of the task `name`, without what is only judged in training; raises UserError for an empty one."""
    train = [example for example in parts.train if example.is_trained_on]
    for part, examples in (("training", train), ("validation", parts.validation)):
        if not examples:
            raise UserError(f"{key}: the {part} part of {name} is empty ({parts.source['data']})")
    for item, count in Counter(example.id for example in parts.validation).items():
        if count > 1:  # outcomes of two models are compared item by item
            numbers = {2: "two", 3: "three"}.get(count, str(count))
            raise UserError(f"{key}: the validation part of {name} has {numbers} items {item} ({parts.source['data']})")
    return Parts(train, parts.validation, parts.source)


def from_files(examples: Reader, train: readers.Files, validation: readers.Files | None, folder: Path) -> Parts:
    """The parts that files hold; without a validation file a fifth of the passages is held out."""
    source: dict[str, Any] = {"data": recorded(folder), "sha256": train.hashes()}
    if validation is None:
        return Parts(*divided(examples(train.rows())), {**source, "split": HELD_OUT})
    source["sha256"] |= validation.hashes()
    source["split"] = ", ".join(path.name for path in validation.paths)
    return Parts(examples(train.rows()), examples(validation.rows()), source)


def from_hub(examples: Reader, hub: str, subset: str | None, key: str) -> Parts:
    """The parts that a data set of the Hub calls train and validation."""
    train, validation = (readers.HubSplit(hub, subset, split, f"{key}.hub") for split in ("train", "validation"))
    source = {
        "data": "/".join(filter(None, (hub, subset))),
        "split": validation.split,
        "fingerprints": {split.split: split.fingerprint for split in (train, validation)},
    }
    return Parts(examples(train.rows()), examples(validation.rows()), source)


def recorded(folder: Path) -> str:
    """A folder as records name it: as it was given, but no path of one machine."""
    return folder.name if folder.is_absolute() else folder.as_posix()
