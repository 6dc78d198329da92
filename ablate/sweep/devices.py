"""How many runs train at a time, and who gets which GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ablate.machine import cores, gpus, uses_gpu


def jobs_at_a_time(trainers: Iterable[Any]) -> int:
    """How many runs train at a time where nobody says: on GPUs as many as have their own, else as many as fill the
    cores and no more.
    """
    listed = [*trainers]
    if needed := max((trainer.devices for trainer in listed if uses_gpu(trainer)), default=0):
        return max(1, len(gpus()) // needed)
    return max(1, cores() // max((trainer.threads * trainer.devices for trainer in listed), default=1))


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
