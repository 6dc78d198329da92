"""Rows of tasks: from JSON lines (also compressed), from parallel text files, or from a data set of the Hub.

A row is a dictionary with the place it is from, so that whatever is wrong with it is said in a line with file and line.
"""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablate.data.compressed import FORMATS, Damaged, Decompressed, check_readable, compression_of
from ablate.errors import UserError, nearest
from ablate.run.files import sha256

ENDINGS = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """One row, and where it is: `val.jsonl:7`."""

    content: Mapping[str, Any]
    where: str

    def text(self, key: str, *, may_be_empty: bool = False) -> str:
        """The text under a key; raises UserError where it is missing, no text or, unless it may be, empty."""
        value = self.value(key)
        if not isinstance(value, str) or not (may_be_empty or value.strip()):
            raise UserError(f"{self.where}: {key!r} must be a text that is not empty, and is {value!r:.60}")
        return value

    def value(self, key: str) -> Any:
        """What is under a key; raises UserError where it is missing."""
        if key not in self.content:
            raise UserError(f"{self.where}: there is no field {key!r}{nearest(key, self.content)}")
        return self.content[key]

    def list_of(self, key: str) -> Sequence[Any]:
        """The list under a key; raises UserError where it is missing or no list."""
        value = self.value(key)
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.where}: {key!r} must be a list, and is {value!r:.60}")
        return value

    def texts_of(self, key: str) -> list[str]:
        """The texts in the list under a key; raises UserError where it is missing, empty, or has anything else."""
        values = self.list_of(key)
        if not values:
            raise UserError(f"{self.where}: {key!r} is empty")
        for value in values:
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{self.where}: each of {key!r} must be a text that is not empty, not {value!r:.60}")
        return list(values)

    def inner(self, value: Any, what: str) -> Row:
        """A row within this one."""
        if not isinstance(value, Mapping):
            raise UserError(f"{self.where}: {what} must be an object, and is {value!r:.60}")
        return Row(value, self.where)

    def label(self, labels: Sequence[str], key: str = "label") -> str:
        """The answer as one of `labels`, given as it is, as its number, or as true or false; raises UserError else."""
        value = self.value(key)
        if isinstance(value, bool):
            value = str(value)
        if isinstance(value, int) and 0 <= value < len(labels):
            return labels[value]
        for label in labels:
            if isinstance(value, str) and value.lower() == label.lower():
                return label
        shown = ", ".join(labels)
        raise UserError(
            f"{self.where}: {key!r} is {value!r:.60}, and must be one of {shown}{nearest(str(value), labels)}"
        )


@dataclass(frozen=True)
class Files:
    """Files of a task: their rows, and the sha256 of each for the record."""

    paths: tuple[Path, ...]

    def rows(self) -> Iterator[Row]:
        """The rows of all files; raises UserError for what is no JSON object."""
        for path in self.paths:
            for number, line in numbered_lines(path):
                if line.strip():
                    yield _row(line, f"{path}:{number}")

    def hashes(self) -> dict[str, str]:
        """The sha256 of each file by its name."""
        return {path.name: sha256(path) for path in self.paths}


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file, numbered from 1, without their ends (LF); raises UserError for a damaged file."""
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.removesuffix("\n")
    except Damaged as error:
        raise UserError(f"{path}:{number + 1}: {error.kind} ({error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: invalid UTF-8 ({error.reason})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _opened(path: Path) -> io.BufferedReader:
    name = os.fspath(path)
    if not compression_of(name):
        return open(path, "rb")
    check_readable(name)
    return io.BufferedReader(Decompressed(name))


def _row(line: str, where: str) -> Row:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: no JSON ({error})") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deeply") from None
    if not isinstance(content, dict):
        raise UserError(f"{where}: must be a JSON object, and is {content!r:.60}")
    return Row(content, where)


def files_of(folder: Path, split: Sequence[str], key: str) -> Files | None:
    """The files in `folder` that hold a split, `split` being the beginnings of their names in the order of preference.

    A name is such a beginning with further digits or nothing, and one of the endings: train.jsonl, val.jsonl.gz,
    train32.jsonl. None where there is none; raises UserError where the folder does not exist, naming `key`.
    """
    if not folder.is_dir():
        near = nearest(folder.name, _names(folder.parent))
        raise UserError(f"{key}: there is no folder {folder}{near}")
    for start in split:
        files = (path for path in sorted(folder.iterdir()) if path.is_file())
        found = [path for path in files if _stem(path).rstrip("0123456789") == start]
        if len(found) > 1:
            raise UserError(f"{key}: {folder} has {' and '.join(path.name for path in found)}; leave one of them there")
        if found:
            return Files((found[0],))
    return None


def named_files(folder: Path, names: str | Sequence[str], key: str) -> Files:
    """The files that `names`, names or patterns below `folder`, stand for; UserError, naming `key`, for none."""
    found: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        matches = sorted(filter(os.path.isfile, glob.glob(os.fspath(folder / name))))
        if not matches:
            names_there = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
            raise UserError(f"{key}: there is no file {folder / name}{nearest(str(name), names_there)}")
        found += map(Path, matches)
    return Files(tuple(dict.fromkeys(found)))


@dataclass(frozen=True)
class HubSplit:
    """A split of a data set that the `datasets` library loads by name; `key` names the option that has the name.

    `loaded` raises UserError where it cannot be loaded.
    """

    name: str
    subset: str | None
    split: str
    key: str

    @cached_property
    def loaded(self) -> Any:
        """The split as the library has it."""
        import datasets

        try:
            return datasets.load_dataset(self.name, self.subset, split=self.split)
        except Exception as error:  # no network, data set or split: each library below has its own type
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{self.key}={self.name}: {self.label} cannot be loaded ({reason})") from None

    @property
    def label(self) -> str:
        """The data set, its subset and the split."""
        return "/".join(part for part in (self.name, self.subset, self.split) if part)

    @property
    def fingerprint(self) -> str:
        """The library's hash of the content, and of how it was made."""
        return str(self.loaded._fingerprint)

    def rows(self) -> Iterator[Row]:
        """Its rows."""
        for number, row in enumerate(self.loaded, 1):
            yield Row(row, f"{self.label}, row {number}")


def _stem(path: Path) -> str:
    name = path.name
    for packed in FORMATS:
        name = name.removesuffix(packed)
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), "")


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []
