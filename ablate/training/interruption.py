"""SIGTERM, SIGHUP and Ctrl-C: at once while nothing is lost by it, else at the next step's end, after a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from ablate.termination import leave_closed_terminal, requests


class Interrupted(BaseException):
    """A signal ended the run before it began to train; no Exception, so that nothing swallows it."""


class Interruption:
    """While entered, these signals raise `Interrupted`; once `deferred`, they are only remembered in `signal`.

    A second Ctrl-C raises KeyboardInterrupt wherever the run is.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.deferred = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in requests()}
            self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals (again): the trainer puts handlers of its own in front."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        again, self.signal = self.signal is not None, self.signal or number
        if number == signal.SIGHUP:
            leave_closed_terminal()
        if not self.deferred:
            raise Interrupted
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
