"""No process outlives the one that started it: what is killed leaves nothing behind that goes on computing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

AGENT = "ABLATE_AGENT"  # the id of the process that started those of a run
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # loaded before any fork


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies (Linux; elsewhere nothing)."""
    _at_parents_death(signal.SIGKILL)


def wake_without_parent() -> None:
    """Let the kernel continue this process, if it is stopped then, when the one that started it dies.

    For one that has work to do at that moment, such as letting others save, and ends itself.
    """
    _at_parents_death(signal.SIGCONT)


def _at_parents_death(number: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def die_with_agent() -> None:
    """The same for a process of a run, which may come too late: `AGENT` says who started it."""
    die_with_parent()
    agent = os.environ.pop(AGENT, None)
    if agent and os.getppid() != int(agent):  # it died before the kernel knew that we care
        os._exit(1)
