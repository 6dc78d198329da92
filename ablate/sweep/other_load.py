"""How much of the machine other processes use, beside this one and those below it."""

from __future__ import annotations

import os
import time

from ablate.process_tree import cpu_seconds_of_others


class OtherLoad:
    """Measures from its making on."""

    def __init__(self) -> None:
        self.began, self.used = time.monotonic(), cpu_seconds_of_others(os.getpid())

    def cores(self) -> float | None:
        """The mean number of cores that others kept busy since; None where it cannot be known."""
        used, seconds = cpu_seconds_of_others(os.getpid()), time.monotonic() - self.began
        if used is None or self.used is None or not seconds > 0:
            return None
        return max(0.0, used - self.used) / seconds
