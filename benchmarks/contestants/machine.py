"""Where and with what a comparison was made."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from . import sources


def facts(threads: int) -> dict[str, Any]:
    """The machine as it is now; `load` is the number of processes that are running, over the last minute."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": threads,
        "load_before": load(),
    }


def load() -> float:
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def today() -> str:
    """The date, in UTC."""
    return datetime.now(UTC).date().isoformat()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python, of torch and of each package or fetched source."""
    known = {*sources.INSTALLED, *sources.COMMITS}
    found = {"python": platform.python_version()}
    for package in sorted({"torch", *packages}):
        found[package] = sources.version(package) if package in known else metadata.version(package)
    commit = _commit()
    return {**found, "ablate commit": commit} if commit else found


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
    wide = [flag for flag in ("avx2", "avx512f", "amx_bf16") if flag in flags]
    return f"{name} ({', '.join(wide)})" if wide else name
