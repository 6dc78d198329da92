"""Run every benchmark, each in a process of its own: python -m benchmarks [--check]"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run them one after the other; returns 1 if one failed."""
    failed = False
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        print(f"\n{file.stem}", flush=True)
        failed |= subprocess.run([sys.executable, str(file), *sys.argv[1:]], check=False).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
