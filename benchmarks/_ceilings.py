"""How a benchmark with bounds ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def verdict(high: Sequence[str], *, check: bool) -> int:
    """The exit code: with `check` 1 where cases are above their ceilings, after a line that names them."""
    if check and high:
        print(f"above the ceiling: {', '.join(high)}", file=sys.stderr)
        return 1
    return 0
