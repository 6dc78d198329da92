"""How many runs train at a time, and who gets which GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ablate.machine import cores, gpus, uses_gpu


def jobs_at_a_time(trainers: Iterable[Any], per_device: int = 1) -> int:
    """How many runs train at a time where nobody says: on GPUs `per_device` on each, else as many as fill the cores
    and no more.
    """
    listed = [*trainers]
    if needed := _gpus_of_a_run(listed):
        return max(1, len(gpus()) // needed) * per_device
    return max(1, cores() // max((trainer.threads * trainer.devices for trainer in listed), default=1))


def runs_on_a_gpu(trainers: Iterable[Any], jobs: int) -> int:
    """How many of `jobs` runs at a time share a GPU, at most; 0 where none trains on one, or there is none."""
    there = len(gpus())
    return -(-jobs * _gpus_of_a_run(trainers) // there) if there else 0


def _gpus_of_a_run(trainers: Iterable[Any]) -> int:
    return max((trainer.devices for trainer in trainers if uses_gpu(trainer)), default=0)


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
