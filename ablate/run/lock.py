"""Locks between processes: whoever holds one is alone; the system frees it when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ablate.errors import UserError
from ablate.run.files import follow_no_link
from ablate.run.record import now

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
                raise Busy(f"{path.parent} is in use by {_holder(descriptor)}")
            tries += 1
            time.sleep(0.02)
        _sign(descriptor)
        yield


@contextlib.contextmanager
def held_in_turn(
    path: Path, *, waiting: Callable[[], None] = lambda: None, until: Callable[[], bool] = lambda: False
) -> Iterator[bool]:
    """Hold the lock at `path` after whoever has it now; yields False, without it, where `until()` ended the wait.

    `waiting` is called once, where there is somebody to wait for.
    """
    with _open(path) as descriptor:
        if not (is_mine := _attempt(descriptor)):
            waiting()
        while not is_mine and not until():
            time.sleep(0.2)
            is_mine = _attempt(descriptor)
        yield is_mine


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


def _sign(descriptor: int) -> None:
    """Say in the file who holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now()}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
