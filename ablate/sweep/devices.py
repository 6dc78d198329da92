"""Which device a run will use, known without importing torch, and who gets which GPU."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def gpus() -> list[str]:
    """The CUDA devices that a process here would see, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(index) for index, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def uses_gpu(trainer: Any) -> bool:
    """Whether a run with this `trainer` config trains on a GPU."""
    return trainer.accelerator == "gpu" or (trainer.accelerator == "auto" and bool(gpus()))


def jobs_at_a_time(trainers: Iterable[Any]) -> int:
    """How many runs train at a time where nobody says: 2, and where they use GPUs as many as have their own."""
    needed = max((trainer.devices for trainer in trainers if uses_gpu(trainer)), default=0)
    return max(1, len(gpus()) // needed) if needed else 2


class Slots:
    """Hands out GPUs, the least used first."""

    def __init__(self) -> None:
        self.load = Counter(dict.fromkeys(gpus(), 0))

    def take(self, count: int) -> list[str]:
        """The names of `count` GPUs for one run; all of them are given back together."""
        chosen = sorted(self.load, key=lambda name: self.load[name])[:count]
        self.load.update(chosen)
        return chosen

    def give_back(self, chosen: list[str]) -> None:
        """Free what `take` gave."""
        self.load.subtract(chosen)
