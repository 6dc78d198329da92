"""How many cores preparing a corpus may use."""

from __future__ import annotations

import os

from ablate import machine


def cores() -> int:
    """RAYON_NUM_THREADS or OMP_NUM_THREADS if set, else the number of cores that this process may use.

    Sets RAYON_NUM_THREADS in this process: the tokenizers library reads it at first use, and has no other setting.
    """
    setting = os.environ.get("RAYON_NUM_THREADS", "")
    count = int(setting) if setting.isdigit() and int(setting) > 0 else machine.threads()
    os.environ.setdefault("RAYON_NUM_THREADS", str(count))
    return count
