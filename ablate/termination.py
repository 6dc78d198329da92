"""The signals that ask a process to end: Ctrl-C, SIGTERM, and SIGHUP, which a closed terminal or a lost ssh sends."""

from __future__ import annotations

import os
import signal
import stat
from types import FrameType

from ablate.terminal import say


class Terminated(BaseException):
    """SIGTERM or SIGHUP came where nothing has to be saved; no Exception, so that nothing swallows it."""


def requests() -> tuple[int, ...]:
    """The signals to handle; without SIGHUP where it is ignored already, as under `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM) if ignored else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


EXIT_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # of a command that was told to end


def exit_code(number: int) -> int:
    """130 after Ctrl-C, 143 after SIGTERM; SIGHUP counts as SIGTERM."""
    return 128 + (signal.SIGTERM if number == signal.SIGHUP else number)


def signal_name(number: int) -> str:
    """SIGKILL and so on; a real-time signal has a number alone."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def likely_cause(number: int) -> str:
    """What often lies behind a signal that nobody here has sent, to be put behind its name; empty where unknown."""
    return "; often the system ran out of memory" if number == signal.SIGKILL else ""


def raise_terminated(number: int, _: FrameType | None) -> None:
    """A handler of SIGTERM and SIGHUP."""
    if number == signal.SIGHUP:
        leave_closed_terminal()
    raise Terminated


def leave_closed_terminal() -> None:
    """Print to nowhere from now on where standard output or error was a terminal that is gone.

    Whoever prints would else fail, in the middle of saving.
    """
    for descriptor in (1, 2):
        try:
            is_gone = stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor)
        except OSError:
            continue
        if is_gone:
            _to_nowhere(descriptor)


def say_or_go_on(line: str) -> None:
    """Print a line; where nobody reads it any more (a closed pipe, a full disk) go on without."""
    try:
        say(line)
    except OSError:
        _to_nowhere(1)
        say(line)  # empties the buffer, whose rest would fail at exit


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
