"""Which files of this machine are read: those that paths, folders and globs name, and what a folder has besides."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ablate.data.compressed import check_readable
from ablate.data.data_faults import DataFaults
from ablate.data.documents import READABLE, kind_of
from ablate.errors import UserError, disk_error

BACKUPS = re.compile(r".*~|#.*#|.*\.(bak|orig|swp|tmp)", re.IGNORECASE)
NAMED = 3  # of the files that are left out for one reason


def names_in(files: Any) -> list[str]:
    """One name of a file or several, as a list; raises UserError for anything else, which YAML makes of 007 or null."""
    names = list(files) if isinstance(files, Sequence) and not isinstance(files, str) else [files]
    for name in names:
        if not (isinstance(name, str) and name):
            raise UserError(f"data.files={name}: must be a path or a list of paths; put quotes around what is no word")
    return names


class LocalFiles:
    """The files that `patterns` name, each once: paths, folders, and globs, whose files come sorted by name.

    A name that a file has is that file, whatever characters are in it. Raises UserError where a pattern names no file,
    or a file of a kind that is not read; in folders such files are left out, and `note` says so.
    """

    def __init__(self, patterns: Sequence[str]):
        if not patterns:
            raise UserError("data.files is empty: give paths or globs, as in data.files='[my/*.jsonl.gz]'")
        self._left_out: dict[tuple[str, str], list[str]] = defaultdict(list)  # (reason, folder) -> files
        found = (file for pattern in patterns for file in self._named_by(str(pattern)))
        self.files = list({os.path.realpath(file): file for file in found}.values())
        for file in self.files:
            if not kind_of(file):
                raise UserError(f"data.files: {file}: must be one of {READABLE}")
            check_readable(file)

    def note(self, faults: DataFaults) -> None:
        """Report what was left out of the folders."""
        for (reason, folder), names in self._left_out.items():
            faults.note(f"files not read ({reason})", f"{folder} ({_some(names)})", len(names))

    def _named_by(self, pattern: str) -> list[str]:
        for path in (pattern, os.path.expanduser(pattern)):
            if os.path.isfile(path):
                return [path]
            if os.path.isdir(path):
                return self._inside(path)
        if "://" in pattern:
            raise UserError(
                f"data.files: {pattern}: is an address, and data=local reads files of this machine; "
                "data=hub with data.path=json (or text, parquet) and data.files reads addresses"
            )
        found = sorted(path for path in glob.glob(os.path.expanduser(pattern), recursive=True) if os.path.isfile(path))
        if not found:
            raise UserError(f"data.files: no file matches {pattern}{_neighbour(pattern)}")
        return found

    def _inside(self, folder: str) -> list[str]:
        files = []
        for path, reason in _walk(folder):
            if reason:
                self._left_out[reason, folder].append(os.path.relpath(path, folder))
            else:
                files.append(path)
        if not files:
            reasons = [f"{len(names)} {reason}" for (reason, place), names in self._left_out.items() if place == folder]
            besides = f"; it has {', '.join(reasons)}" if reasons else ""
            raise UserError(f"data.files: no {READABLE} file in {folder}{besides}")
        return files


def _walk(folder: str) -> Iterator[tuple[str, str]]:
    """Every file in a folder, sorted, with the reason why it is not read, empty where it is."""

    def refuse(error: OSError) -> None:
        raise UserError(f"data.files: {disk_error(error) or error}")

    paths: list[tuple[str, str]] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        for name in list(folders):
            path = os.path.join(place, name)
            if reason := _reason_against_folder(path):
                folders.remove(name)
                paths.append((path, reason))
        paths.extend((path, _reason_against(path)) for path in (os.path.join(place, name) for name in names))
    yield from sorted(paths)


def _reason_against_folder(path: str) -> str:
    name = os.path.basename(path)
    if name.startswith("."):
        return "hidden"
    if name == "__MACOSX":
        return "__MACOSX"
    return "link to a folder" if os.path.islink(path) else ""


def _reason_against(path: str) -> str:
    name = os.path.basename(path)
    if name.startswith("."):
        return "hidden"
    if BACKUPS.fullmatch(name):
        return "backup"
    if not os.path.isfile(path):
        return "broken link" if os.path.islink(path) else "not a file"
    return "" if kind_of(path) else os.path.splitext(name)[1].lower() or "no ending"


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _neighbour(pattern: str) -> str:
    folder = os.path.dirname(pattern) or "."
    if not os.path.isdir(folder):
        return f" (there is no folder {folder})"
    near = difflib.get_close_matches(os.path.basename(pattern), os.listdir(folder), n=1, cutoff=0.5)
    return f"; did you mean {os.path.join(folder, near[0])!r}?" if near else ""
