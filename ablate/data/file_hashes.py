"""The SHA-256 of files, taken once and remembered as long as a file was not written again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from ablate.data.cpu_count import cores
from ablate.errors import UserError, disk_error
from ablate.run.files import atomic_write, read_json, sha256

MEMORY = ".file-hashes.json"  # beside the files that it is about
SETTLED = 2.0  # seconds after which a file that is written again has another time, on every file system
EVERY = 10.0  # seconds between two times of saving

Hashes = Callable[[Sequence[str]], list[str]]  # the hash of each file


def hash_files(files: Sequence[str]) -> list[str]:
    """The SHA-256 of each file; raises UserError for one that cannot be read."""
    return [_hash(file) for file in files]


class FileHashes:
    """Hashes of files that are remembered in the file `memory`, by path, inode, size and times of change.

    A file's time of change (ctime) cannot be set, so that no other content is taken for what was hashed. Where `memory`
    cannot be read or written, files are hashed again. Several processes may have it: the last that writes wins.
    """

    def __init__(self, memory: Path, progress: Callable[[str], None] = lambda line: None):
        self._memory, self._progress = memory, progress
        self._known: dict[str, Any] = read_json(memory)
        self._new: dict[str, Any] = {}
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._save()

    def __call__(self, files: Sequence[str]) -> list[str]:
        """The hash of each file; several are read at once. Raises UserError for one that cannot be read."""
        with ThreadPoolExecutor(min(cores(), 8)) as pool:
            hashes = []
            for number, found in enumerate(pool.map(self._one, files), 1):
                hashes.append(found)
                if time.monotonic() - self._saved >= EVERY:
                    self._progress(f"hashed {number:,} of {len(files):,} files")
                    self._save()
        return hashes

    def _one(self, file: str) -> str:
        path = os.path.realpath(file)
        before = _stamp(path)
        match self._known.get(path):
            case [*stamp, str(known)] if stamp == before:
                return known
        found = _hash(file)
        if before and before == _stamp(path) and time.time_ns() - max(before[-2:]) > SETTLED * 1e9:
            self._new[path] = [*before, found]
        return found

    def _save(self) -> None:
        if self._new:
            # what other processes have saved since stays
            self._known = {**read_json(self._memory), **self._new}
            self._new = {}
            with contextlib.suppress(OSError):  # a folder without write permission, a full disk
                self._memory.parent.mkdir(parents=True, exist_ok=True)
                atomic_write(self._memory, json.dumps(self._known))
        self._saved = time.monotonic()


def _stamp(path: str) -> list[int]:
    """What changes when a file is written or replaced; without the device, whose number differs between machines."""
    try:
        stat = os.stat(path)
    except OSError:
        return []
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _hash(file: str) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise UserError(disk_error(error, file) or f"{file}: cannot be read ({error.strerror})") from None
