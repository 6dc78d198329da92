"""What work may cost, whatever else the machine does meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """The block uses no more than `seconds` of this process's CPU time, to which the load of others adds nothing."""
    began = time.process_time()
    yield
    used = time.process_time() - began
    assert used < seconds, f"{used:.1f} s of CPU time"
