"""What a run was made with: versions, source state, hardware, and how fast its device could be."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

import ablate
from ablate.run.record import Git, Hardware

# Dense peak in FLOP/s, by whole words of the device's name: bf16 tensor cores, float32 through TF32. From NVIDIA's data
# sheets and architecture white papers, named beside each; where they give figures with sparsity, which are twice the
# dense ones, half of those stands here. A device that is not listed gets no MFU.
PEAK_FLOPS = {
    "H200 NVL": {"bf16": 835e12, "fp32": 417e12},  # H200 data sheet (1,671 and 835 with sparsity)
    "H200": {"bf16": 989e12, "fp32": 494e12},  # the same, SXM (1,979 and 989 with sparsity)
    "H100 80GB HBM3": {"bf16": 989e12, "fp32": 494e12},  # H100 data sheet, SXM (1,979 and 989 with sparsity)
    "H100 PCIe": {"bf16": 756e12, "fp32": 378e12},  # H100 data sheet of 2023 (1,513 and 756 with sparsity)
    "A100": {"bf16": 312e12, "fp32": 156e12},  # A100 data sheet
    "A40": {"bf16": 149.7e12, "fp32": 74.8e12},  # A40 data sheet
    "A10": {"bf16": 125e12, "fp32": 62.5e12},  # A10 data sheet
    "L40S": {"bf16": 362e12, "fp32": 183e12},  # L40S data sheet (733 and 366 with sparsity)
    "L4": {"bf16": 121e12, "fp32": 60e12},  # L4 data sheet (242 and 120 with sparsity)
    "RTX 4090": {"bf16": 165e12, "fp32": 82.6e12},  # Ada white paper, bf16 with fp32 accumulate
    "RTX 3090": {"bf16": 71e12, "fp32": 35.6e12},  # GA102 white paper, bf16 with fp32 accumulate
}


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    found = {"ablate": ablate.__version__, "python": platform.python_version()}
    for name in ("torch", "lightning", "numpy", "hydra-core", "tokenizers", "datasets"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_state() -> Git:
    """The commit of the source tree and whether tracked files differ from it; empty outside a repository.

    An environment inside somebody's repository is not the source tree: nothing of the package is tracked there.
    """
    source = Path(ablate.__file__).parent
    commit = _git(source, "rev-parse", "HEAD") if _git(source, "ls-files", "--", "__init__.py") else ""
    changed = _git(
        source, "status", "--porcelain", "--untracked-files=no", "--", str(source), str(source.parent / "conf")
    )
    return Git(sha=commit or None, dirty=bool(changed) if commit else None)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def hardware(kind: str, devices: int) -> Hardware:
    """The device that trains (`kind` is cuda or cpu), how many of them, and the processor."""
    return Hardware(
        device=torch.cuda.get_device_name() if kind == "cuda" else _processor(),
        kind=kind,
        devices=devices,
        processor=_processor(),
        cores=os.cpu_count(),
    )


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def mfu(flops_per_second: float, device_name: str, precision: str, devices: int) -> float | None:
    """Model FLOP utilisation, 0 to 1; None for a device whose peak is not known."""
    if re.search(r"\b(Laptop|Max-Q|D|Ti)\b", device_name):
        return None
    for part, peak in PEAK_FLOPS.items():
        if re.search(rf"\b{part}\b", device_name):
            return flops_per_second / (peak[precision] * devices)
    return None


class PeakMemory:
    """The most memory that one training takes: of the GPU what was allocated, else what this process grew by.

    On a CPU the resident memory at the start (Python, torch, what a fork server has loaded, a corpus that was prepared
    before) is not the run's, and is taken off. A process may train one model after the other: each has its own.
    """

    def __init__(self, device_type: str) -> None:
        self._device_type = device_type
        _give_back_freed()
        self.forget()
        self._before = 0 if device_type == "cuda" else _peak_resident_bytes()
        self.bytes = 0

    def note(self, device: torch.device) -> None:
        """Take what was held since the last `forget`."""
        held = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak_resident_bytes()
        self.bytes = max(self.bytes, held - self._before)

    def forget(self) -> None:
        """What was held so far does not count further, where the system can do that: on a GPU, and on Linux."""
        if self._device_type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident memory


def _give_back_freed() -> None:
    """Hand freed memory back to the system, which glibc keeps: another's, it would be used again unseen."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _peak_resident_bytes() -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
