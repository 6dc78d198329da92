"""Processes that work beside training, and take only what training leaves of the processor."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "GOMAXPROCS": "1"}  # for the environment of such a process
NICE = 10  # a tenth of the weight of other processes: at 19, beside full load, starting W&B takes minutes
TRIES, PAUSE_SECONDS = 10, 0.1


def step_back(pid: int) -> bool:
    """Give a process, and its session, a low priority; False where the system refused for now, and may not later.

    Where Linux groups processes by session (`autogroup`), a nice value counts among those of one session only, and a
    new session begins at 0: the session's own value is set, too.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, max(NICE, os.getpriority(os.PRIO_PROCESS, pid)))
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(NICE))
    except BlockingIOError:  # the kernel takes one such change in a tenth of a second, from all users together
        return False
    except OSError:
        pass  # no such grouping here, or the process has ended
    return True


def insist(pid: int) -> None:
    """`step_back`, again until it is done; it may take a second."""
    for _ in range(TRIES):
        if step_back(pid):
            return
        time.sleep(PAUSE_SECONDS)


def leads_session(pid: int) -> bool:
    """Whether a process has a session of its own."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False
