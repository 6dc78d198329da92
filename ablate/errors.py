"""A person's mistakes and the troubles of a disk, and how the command prints them: a line each, to standard error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ablate.terminal import say, without_sequences

_DISK_TROUBLES = {  # what is said of the file system
    errno.ENOSPC: "has no room left",
    errno.EDQUOT: "has no room left for this user (the quota is used up)",
    errno.EROFS: "is mounted read-only",
    errno.EIO: "fails to read or write (input/output error)",
}
_FILE_TROUBLES = {  # what is said of the folder or file itself
    errno.EACCES: "no permission to read or write there",
    errno.EPERM: "the system does not allow to write there",
    errno.EFBIG: "a file there would be larger than the system allows (ulimit -f)",
}


class UserError(Exception):
    """A mistake in what the user gave: one line that names it; the command exits with `exit_code`."""

    exit_code = 2

    def of(self, *where: str) -> UserError:
        """The same mistake, each line of it behind the words that say where it was made: `sweep: row: line`."""
        return UserError("\n".join(": ".join((*where, line)) for line in str(self).splitlines()))


class OutOfMemory(Exception):
    """A training step does not fit into the memory; one line that says what would."""


def print_error(message: object) -> None:
    """Print each line of a message to standard error, as the command's own."""
    for line in str(message).splitlines():
        say(f"ablate: {line}", file=sys.stderr)


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """The tail of an error line that offers the nearest right word, or nothing where none is as near as `cutoff`."""
    import difflib  # only where there is a mistake: each command would pay for it at its start

    choices = list(choices)
    match = [choice for choice in choices if choice.lower() == word.lower()]
    match += difflib.get_close_matches(word, choices, n=1, cutoff=cutoff)
    return f"; did you mean {match[0]!r}?" if match else ""


def disk_error(error: BaseException, path: Path | str | None = None) -> str:
    """The line for an error that a disk is the cause of; empty where it is another kind of error.

    It names the folder or file that was to be read or written (`path`; else the one that the error names) and the
    mount point of its file system. What was raised while a disk's error was handled, as by torch's writer, counts too.
    """
    for cause in causes(error):
        if not isinstance(cause, OSError) or cause.errno not in {*_DISK_TROUBLES, *_FILE_TROUBLES}:
            continue
        place = path if path is not None else cause.filename
        where = f"{place}: " if isinstance(place, (str, Path)) else ""
        if cause.errno in _FILE_TROUBLES:
            return f"{where}{_FILE_TROUBLES[cause.errno]}"
        mount = _mount_point(Path(place) if where else Path())
        free = f" ({_free_space(mount)})" if cause.errno == errno.ENOSPC else ""
        return f"{where}the file system at {mount} {_DISK_TROUBLES[cause.errno]}{free}"
    return ""


def is_full(path: Path) -> bool:
    """Whether the file system that `path` is on has no room left, for who cannot even note that there."""
    try:
        found = os.statvfs(_mount_point(path))
    except OSError:
        return False
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from, or during whose handling, the nearest first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _mount_point(path: Path) -> Path:
    """Where the file system that `path` is on, or would be on, is mounted."""
    path = Path(os.path.realpath(path))
    return next((folder for folder in (path, *path.parents) if os.path.ismount(folder)), Path("/"))


def _free_space(mount: Path) -> str:
    """`3 MB of 100 MB free`, or that there may be no more files."""
    try:
        found = os.statvfs(mount)
    except OSError:
        return "full"
    if found.f_files and not found.f_favail:
        return "it holds as many files as it can"
    free, size = (blocks * found.f_frsize / 1e6 for blocks in (found.f_bavail, found.f_blocks))
    return f"{free:,.0f} MB of {size:,.0f} MB free"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was not the memory for something, of the machine or of a GPU."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in str(error)


def reason_of(error: BaseException, folder: Path | None = None) -> str:
    """What a run died of, in a line, with what helps where that is known; `folder` is where it writes."""
    text = " ".join(without_sequences(str(error)).split())[:300]
    if isinstance(error, (UserError, OutOfMemory)):
        return text
    kind = type(error).__name__
    if is_out_of_memory(error):
        return f"out of memory ({text or kind}); a smaller trainer.micro_batch needs less"
    named = next((cause.filename for cause in causes(error) if isinstance(cause, OSError) and cause.filename), None)
    if line := disk_error(error, named or folder):
        return line
    return f"{kind}: {text}" if text else kind
