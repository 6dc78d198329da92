"""Where no garbage is looked for: among what is made as large libraries are imported, which stays to the end."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Look for no garbage meanwhile, a fifth of the time that importing torch takes; nor, later, among what there is.

    The latter once in a process, so that one that comes here often does not keep all that it ever made.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if was_enabled:
            gc.enable()
