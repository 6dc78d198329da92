"""How many cores preparation may use."""

from __future__ import annotations

import os


def cores() -> int:
    """RAYON_NUM_THREADS or OMP_NUM_THREADS where set, else the cores that this process may run on.

    Sets the former of this process, because the tokenizers library reads it at its first work and heeds nothing else.
    """
    asked = os.environ.get("RAYON_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = int(asked) if asked.isdigit() and int(asked) > 0 else there
    os.environ.setdefault("RAYON_NUM_THREADS", str(count))
    return count
