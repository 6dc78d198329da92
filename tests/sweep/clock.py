"""The time as a sweep's driver sees it, which a test sets forward: nothing depends on how busy the machine is."""

import time

from ablate.sweep import scheduler


class Clock:
    """Stands for `time` in the scheduler; `at_tick(clock)` is called between its looks and may add to `ahead`."""

    def __init__(self, monkeypatch, at_tick):
        self.ahead, self.at_tick = 0.0, at_tick
        monkeypatch.setattr(scheduler, "time", self)

    def monotonic(self):
        return time.monotonic() + self.ahead

    def sleep(self, seconds):
        time.sleep(seconds)
        self.at_tick(self)
