"""What this machine has for computing, known without importing torch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def cores() -> int:
    """The logical cores that this process may use: by its affinity, and by the quota of its control groups."""
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affine, int(_quota())))


def threads() -> int:
    """The threads that a process here computes with: OMP_NUM_THREADS where that is set, else one a core."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdigit() and int(setting) > 0 else cores()


def gpus() -> list[str]:
    """The CUDA devices that a process here would see, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(index) for index, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def gpu_memory() -> int | None:
    """The bytes of memory of the smallest GPU that a process here would see; None where the driver does not say."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={','.join(gpus())}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return min(int(line) for line in done.stdout.split()) * 2**20  # it counts in MiB
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def uses_gpu(trainer: Any) -> bool:
    """Whether a run with this `trainer` config trains on a GPU."""
    return trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and bool(gpus()))


def _quota() -> float:
    """The smallest number of cores' time that a control group above this process allows; as many as any without one.

    Version 2 has one tree of groups; of version 1 it is that of the controller `cpu`.
    """
    most = float(2**20)
    try:
        groups = [line.split(":", 2) for line in OWN_CGROUP.read_text().splitlines()]
    except OSError:
        return most
    for _, controllers, path in (group for group in groups if len(group) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / controllers if controllers else CGROUPS
        group = root / path.strip("/")
        for folder in (group, *(above for above in group.parents if above.is_relative_to(root))):
            most = min(most, _allowed(folder))
    return most


def _allowed(group: Path) -> float:
    """The cores' time that one control group allows; infinite where it sets no limit, or is not there."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((group / file).read_text() for file in files).split()
            return int(quota) / int(period) if int(quota) > 0 else float("inf")
        except (OSError, ValueError, ZeroDivisionError):  # "max" is no number: no limit
            continue
    return float("inf")
