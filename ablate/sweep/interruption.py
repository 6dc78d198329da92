"""Ctrl-C, SIGTERM and SIGHUP, noticed between two looks at the runs instead of wherever the driver happens to be."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from ablate.termination import exit_code, leave_closed_terminal, requests


class Interruption:
    """While entered, the first signal is only remembered; the second ends the driver's patience with its runs."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.impatient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in requests():
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_closed_terminal()
        self.impatient = self.signal is not None
        self.signal = self.signal or number

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM or SIGHUP."""
        return exit_code(self.signal or 0)
