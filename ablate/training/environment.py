"""What a run was made with: versions, source state, hardware, and how fast its device could be."""

from __future__ import annotations

import contextlib
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

# Dense peak in FLOP/s, by whole words of the device's name: bf16 tensor cores, float32 through TF32. The data sheets'
# figures with sparsity are twice these. A device that is not listed gets no MFU.
PEAK_FLOPS = {
    "H200 NVL": {"bf16": 835e12, "fp32": 417e12},
    "H200": {"bf16": 989e12, "fp32": 494e12},
    "H100 80GB HBM3": {"bf16": 989e12, "fp32": 494e12},
    "H100 PCIe": {"bf16": 756e12, "fp32": 378e12},
    "A100": {"bf16": 312e12, "fp32": 156e12},
    "L40S": {"bf16": 362e12, "fp32": 183e12},
    "RTX 4090": {"bf16": 165e12, "fp32": 82.6e12},
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
    if re.search(r"\b(Laptop|Max-Q|D)\b", device_name):
        return None
    for part, peak in PEAK_FLOPS.items():
        if re.search(rf"\b{part}\b", device_name):
            return flops_per_second / (peak[precision] * devices)
    return None


def forget_peak_memory(device_type: str) -> None:
    """Begin anew: a process may train one model after the other. What Linux alone can do is left elsewhere."""
    if device_type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident memory


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory held since `forget_peak_memory`: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
