"""How the C library of Linux (glibc) hands out memory: large blocks are kept, not given back after each step.

A step frees what it has allocated, and the next one asks for the same again: from the kernel, page by page, that is
some hundredths of its time. Values are not changed by it, and the most memory that a run takes is about the same.
"""

from __future__ import annotations

import ctypes
import os

OPTIONS = {  # the variable that glibc reads when a process starts, its number for `mallopt`, and a value in bytes
    "MALLOC_MMAP_THRESHOLD_": (-3, 1 << 30),  # smaller blocks come from the heap,
    "MALLOC_TRIM_THRESHOLD_": (-1, (1 << 31) - 1),  # which keeps so much that is free at its end,
    "MALLOC_TOP_PAD_": (-2, 1 << 26),  # and grows by that much more than it needs
}
ENVIRONMENT = {name: str(value) for name, (_, value) in OPTIONS.items()}


def keep_large_blocks() -> None:
    """Set this for the process, but for what its environment sets; does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for name, (number, value) in OPTIONS.items():
        if mallopt is not None and name not in os.environ:
            mallopt(number, value)
