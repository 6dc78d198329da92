"""Spikes: steps whose loss, or gradient norm, is far above that of the steps before.

A value is a spike if it exceeds the mean of the last 128 values by six standard deviations or more, once there are 64:
the rule of the SkipStepOptimizer in OLMo-core (https://github.com/allenai/OLMo-core). A value that is not finite is a
divergence, no spike.
"""

from __future__ import annotations

import math
import operator
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import torch

WINDOW, LEAST = 128, 64  # values before: as many as are compared with, and as few as will do
DEVIATIONS = 6.0


@dataclass(frozen=True)
class Spike:
    """One of them: the step (from 1), what rose, to which value, and by how many standard deviations."""

    step: int
    what: str
    value: float
    deviations: float

    def __str__(self) -> str:
        return (
            f"spike at step {self.step}: {self.what} {self.value:.4g}, "
            f"{self.deviations:.3g} standard deviations above the mean of the steps before"
        )


class Window:
    """The last values of one quantity."""

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=WINDOW)

    def deviations(self, value: float) -> float:
        """By how many standard deviations `value` exceeds the mean; 0 while that is not known."""
        count = len(self.values)
        if count < LEAST:
            return 0.0
        mean = sum(self.values) / count
        variance = sum(map(operator.mul, self.values, self.values)) / count - mean * mean
        return (value - mean) / math.sqrt(variance) if variance > 0 else 0.0


class Spikes:
    """Those of a run so far; `skip_from`, in standard deviations, is `trainer.skip_spikes`."""

    def __init__(self, skip_from: float | None = None) -> None:
        self.threshold, self.skips = skip_from or DEVIATIONS, skip_from is not None
        self.windows = {"loss": Window(), "gradient norm": Window()}
        self.count, self.first_step = 0, 0
        self.largest: Spike | None = None
        self.unsaid: Spike | None = None  # the largest since `news`

    def take(self, step: int, loss: float, gradient_norm: float) -> bool:
        """The numbers of one step more, before it is taken; returns whether it is to be skipped.

        That is the same in every process, whose numbers are the same, and when resumed.
        """
        found = None
        for (what, window), value in zip(self.windows.items(), (loss, gradient_norm), strict=True):
            deviations = window.deviations(value)
            if deviations >= self.threshold and (found is None or deviations > found.deviations):
                found = Spike(step, what, value, deviations)
            window.values.append(value)
        if found is None:
            return False
        self.count += 1
        self.first_step = self.first_step or step
        self.largest = _larger(self.largest, found)
        self.unsaid = _larger(self.unsaid, found)
        return self.skips

    def news(self) -> str:
        """The largest spike since the last call, in a line; empty where there was none."""
        spike, self.unsaid = self.unsaid, None
        return f"{spike} (spikes so far: {self.count}{', each skipped' if self.skips else ''})" if spike else ""

    def fields(self) -> dict[str, Any]:
        """The key of the record; empty where there was no spike."""
        if self.largest is None:
            return {}
        found = {"count": self.count, "skipped": self.count if self.skips else 0, "first_step": self.first_step}
        return {"spikes": {**found, "largest": asdict(self.largest)}}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of them."""
        return {
            "values": {what: torch.tensor(list(one.values), dtype=torch.float64) for what, one in self.windows.items()},
            "count": self.count,
            "first_step": self.first_step,
            "largest": self.largest and asdict(self.largest),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where a checkpoint stood."""
        for what, values in state["values"].items():
            self.windows[what].values.extend(values.tolist())
        self.count, self.first_step = state["count"], state["first_step"]
        self.largest = Spike(**state["largest"]) if state["largest"] else None


def _larger(one: Spike | None, other: Spike) -> Spike:
    return other if one is None or other.deviations > one.deviations else one
