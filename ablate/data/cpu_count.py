"""How many cores preparing a corpus may use."""

from __future__ import annotations

import os


def cores() -> int:
    """RAYON_NUM_THREADS or OMP_NUM_THREADS if set, else the number of cores that this process may run on.

    Sets RAYON_NUM_THREADS in this process: the tokenizers library reads it at first use, and has no other setting.
    """
    setting = os.environ.get("RAYON_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = int(setting) if setting.isdigit() and int(setting) > 0 else available
    os.environ.setdefault("RAYON_NUM_THREADS", str(count))
    return count
