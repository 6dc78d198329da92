"""The processes below one and their states, as /proc tells them; nothing is known where there is no /proc."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

STOPPED = ("T", "t")  # by SIGSTOP or a debugger
_TIMES = slice(11, 15)  # in `_stat`: user and system time, its own and that of its children that have ended


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if parent := parent_of(int(path.name)):
            children.setdefault(parent, []).append(int(path.name))
    family, found = [pid], []
    while family:
        more = children.get(family.pop(), [])
        family += more
        found += more
    return found


def cpu_seconds_of_others(pid: int) -> float | None:
    """CPU time that the processes besides `pid` and those below it have used so far; None where it is not known.

    The time of a process that has ended is with its parent. The difference of two calls is the load in between, less
    what was used by processes that nobody waited for.
    """
    family = {pid, *descendants(pid)}
    times = [
        sum(map(int, words[_TIMES]))
        for path in Path("/proc").glob("[0-9]*")
        if int(path.name) not in family and (words := _stat(int(path.name)))
    ]
    return sum(times) / os.sysconf("SC_CLK_TCK") if Path("/proc/self/stat").exists() else None


def parent_of(pid: int) -> int | None:
    """The process that started `pid`, or has adopted it."""
    words = _stat(pid)
    return int(words[1]) if words else None


def kill_group(leader: int) -> None:
    """Send SIGKILL to the group of processes that `leader` began, if there is any of it left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def ask_to_end(pid: int) -> None:
    """Send SIGTERM to a process, which saves and passes it on to its own; what is stopped among them is continued."""
    for member, number in [(pid, signal.SIGTERM), *((member, signal.SIGCONT) for member in (pid, *descendants(pid)))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, number)


def is_stopped(pid: int) -> bool:
    """Whether the process neither runs nor waits, but is stopped, as by SIGSTOP."""
    return _stat(pid)[:1] in [[state] for state in STOPPED]


def exists(pid: int) -> bool:
    """Whether there is such a process, and it has not ended; where there is no /proc, whether it can be signalled."""
    if state := _stat(pid)[:1]:
        return state != ["Z"]
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def cpu_seconds(pid: int) -> float | None:
    """The time that the processor has given to all threads of a process; None where that is not known."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def variable(pid: int, name: str) -> str | None:
    """A variable of the environment that the process was started with."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = [entry for entry in entries if entry.startswith(f"{name}=".encode())]
    return found[0].partition(b"=")[2].decode(errors="replace") if found else None


def _stat(pid: int) -> list[str]:
    """State, parent and so on; empty where it is gone."""
    try:
        # The name, in brackets, may hold blanks.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
