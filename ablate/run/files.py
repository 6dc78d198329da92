"""How files are written so that none is ever half there, and read where they may be absent or damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ablate.run import json_text

TEMPORARY = ".tmp"  # the ending of a file that is not yet whole


def atomic_write(path: Path | str, data: bytes | str) -> None:
    """Write a file so that a reader, or the next start after a crash, sees the old content or the new, whole."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file to write, that takes its place under `path` once it is whole and on disk."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, or none that can be read."""
    try:
        content = json_text.read(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def remove_temporary(folder: Path) -> None:
    """Delete what a killed writer left half written in `folder`."""
    for left in folder.glob(f".*{TEMPORARY}"):
        left.unlink(missing_ok=True)
