"""Who holds a lock that others wait for, and whether it is still at work: a wait for it has an end."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from ablate.duration import duration
from ablate.process_tree import cpu_seconds, exists, is_stopped
from ablate.run.record import now

NAMED_AFTER = 2.0  # seconds of waiting until the holder is named
IDLE_LIMIT = 300.0  # seconds without a sign of life of a holder that is stopped or has ended
SILENT_LIMIT = 3600.0  # the same of another one, which may wait for a network


@dataclass(frozen=True)
class Holder:
    """A process as it signed the file of its lock."""

    words: str = "another process"
    pid: int | None = None  # on this machine; None on another one, whose processes cannot be seen

    @classmethod
    def of(cls, descriptor: int) -> Holder:
        """Whoever has signed the file."""
        words = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        signed = re.match(r"process (\d+) on (\S+) since ", words)
        is_here = signed is not None and signed[2] == socket.gethostname()
        return cls(words or cls.words, int(signed[1]) if signed and is_here else None)

    def obstacle(self) -> str:
        """What keeps it from its work, and what helps; empty where nothing is known."""
        if self.pid is None:
            return ""
        if is_stopped(self.pid):
            return f"it is stopped (SIGSTOP): `kill -CONT {self.pid}` continues it, `kill -KILL {self.pid}` ends it"
        if not exists(self.pid):
            return "it has ended, and a process that it started still holds the lock"
        return ""

    def __str__(self) -> str:
        obstacle = self.obstacle()
        return f"{self.words}{f'; {obstacle}' if obstacle else ''}"


def sign(descriptor: int) -> None:
    """Say in the file of a lock that this process holds it."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now()}\n".encode(), 0)


class HolderWatch:
    """One wait for a lock: what there is to say of its holder, and whether the wait is over without it.

    Signs of life are the time of the lock's file, which a holder renews as it gets on, and here the time that the
    processor gives it.
    """

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.descriptor, self.clock = descriptor, clock
        self.began = self.last_sign = clock()
        self.signs: tuple[Holder, int, float | None] | None = None
        self.said: str | None = None

    def look(self) -> str:
        """Look at the holder; returns words about it where there is something new to say."""
        holder, at = Holder.of(self.descriptor), self.clock()
        signs = (holder, os.fstat(self.descriptor).st_mtime_ns, cpu_seconds(holder.pid) if holder.pid else None)
        if signs != self.signs:
            self.signs, self.last_sign = signs, at
        obstacle = holder.obstacle()
        self.holder, self.limit = holder, IDLE_LIMIT if obstacle else SILENT_LIMIT
        if at - self.began < NAMED_AFTER or self.said == obstacle:
            return ""
        self.said = obstacle
        limit = f"; without a sign of life it is waited for {duration(self.limit)}" if obstacle else ""
        return f"{holder}{limit}"

    @property
    def is_over(self) -> bool:
        """Whether the last look was in vain for too long."""
        return self.clock() - self.last_sign > self.limit
