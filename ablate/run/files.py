"""How files are written so that none is ever half there, and read where they may be absent or damaged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ablate.errors import UserError, causes
from ablate.run import json_text

IS_LINK = "is a symbolic link, which nothing is written through; remove it"
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
        temporary.unlink(missing_ok=True)
        with open(temporary, "xb") as file:  # a new one: no link that somebody laid there is followed
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        name_file(error, path)
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def refuse_links(*folders: Path) -> None:
    """Raise `UserError` where one of these folders, or something in it, is a symbolic link.

    What came from elsewhere, unpacked from an archive, may have links in it; what is written through one, a lock that
    is emptied or a log, changes files outside. A link at or above `paths.runs`, as to a larger disk, is a user's own.
    """
    for folder in folders:
        if folder.is_symlink():
            raise UserError(f"{folder} {IS_LINK}")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise UserError(f"{entry.path} {IS_LINK}")


def follow_no_link(path: str | Path, flags: int) -> int:
    """A file's descriptor, for `open(path, ..., opener=follow_no_link)`; raises `UserError` for a symbolic link."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path} {IS_LINK}") from None
        raise


def name_file(error: BaseException, path: Path) -> None:
    """Say in an error of the system which file it is about: one of writing does not, other than one of opening."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.filename is None:
            cause.filename = os.fspath(path)


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
