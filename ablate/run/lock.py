"""Locks between processes: whoever holds one is alone; the system frees it when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ablate.duration import duration
from ablate.errors import UserError
from ablate.run.files import follow_no_link
from ablate.run.lock_holder import Holder, HolderWatch, sign

TRIES = 10  # to get a lock, which whoever looks at its state touches for a moment


class Busy(Exception):
    """Another live process holds the lock; the command exits with `exit_code`."""

    exit_code = 75


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; raises `Busy`, naming the holder, where another process does."""
    with _open(path) as descriptor:
        tries = 1
        while not _attempt(descriptor):
            if tries == TRIES:
                raise Busy(f"{path.parent} is in use by {Holder.of(descriptor)}")
            tries += 1
            time.sleep(0.02)
        sign(descriptor)
        yield


@contextlib.contextmanager
def held_in_turn(
    path: Path, *, waiting: Callable[[str], None] = lambda words: None, until: Callable[[], bool] = lambda: False
) -> Iterator[bool]:
    """Hold the lock at `path` after whoever has it now; yields False, without it, where `until()` ended the wait.

    `waiting` is called after a few seconds with words on who holds it, and again where it is found stopped, has ended
    or goes on. Raises `Busy`, naming it, where it has shown no sign of life for a long time; `renew` is one.
    """
    with _open(path) as descriptor:
        is_mine, watch = _attempt(descriptor), HolderWatch(descriptor)
        while not is_mine and not until():
            if words := watch.look():
                waiting(words)
            if watch.is_over:
                raise Busy(f"no sign of life for {duration(watch.limit)} of {watch.holder}")
            time.sleep(0.2)
            is_mine = _attempt(descriptor)
        if is_mine:
            sign(descriptor)
        yield is_mine


def renew(path: Path) -> None:
    """Show those who wait for the lock at `path`, which this process holds, that it is at work."""
    with contextlib.suppress(OSError):
        os.utime(path)


def is_held(path: Path) -> bool:
    """Whether a live process holds the lock at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = follow_no_link(path, os.O_RDWR | os.O_CREAT)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"{path} is no file that can be locked; remove it")
        yield descriptor
    finally:
        os.close(descriptor)


def _attempt(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
