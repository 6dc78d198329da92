"""Lines of progress while a corpus is prepared."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY = 2.0  # seconds between two lines of progress

Progress = Callable[[str], None]


class Ticker:
    """Reports progress, at most every few seconds unless something new starts."""

    def __init__(self, report: Progress, name: str):
        self._report, self._name, self._last = report, name, time.monotonic()

    def say(self, line: str) -> None:
        self._report(f"{self._name}: {line}")
        self._last = time.monotonic()

    def maybe(self, line: str) -> None:
        if time.monotonic() - self._last >= EVERY:
            self.say(line)
