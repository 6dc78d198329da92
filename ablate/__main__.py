"""The command `ablate`: one verb, then its arguments."""

from __future__ import annotations

import atexit
import gc
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    from ablate.cli import run

    atexit.register(gc.freeze)  # or Python would look for garbage once more at its end, a tenth of a second with torch
    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
