"""The baseline along the sizes of a sweep: by how much its loss falls from each to the next."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.results import Results, number
from ablate.run.record import DONE

CRITICAL = 1.96  # of the normal distribution, two-sided at 5 %


@dataclass(frozen=True)
class Size:
    """The baseline at one size; `losses` are its final losses, `flops` what a run takes."""

    name: str
    parameters: float
    tokens: float
    flops: float
    losses: np.ndarray

    @property
    def variance(self) -> float:
        """Of the mean loss."""
        return float(self.losses.var(ddof=1)) / len(self.losses)


@dataclass(frozen=True)
class Fall:
    """From one size to the next: by how much the loss falls per factor e of FLOPs, in nats, and its standard error."""

    first: Size
    second: Size

    @property
    def _apart(self) -> float:
        return math.log(self.second.flops / self.first.flops)

    @property
    def slope(self) -> float:
        return float(self.first.losses.mean() - self.second.losses.mean()) / self._apart

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval of the slope."""
        return CRITICAL * math.sqrt(self.first.variance + self.second.variance) / self._apart


def falls(sizes: list[Size]) -> list[Fall]:
    """From each size to the next, by their FLOPs."""
    ordered = sorted(sizes, key=lambda size: size.flops)
    return [Fall(one, other) for one, other in itertools.pairwise(ordered) if other.flops > one.flops]


def size_of(results: Results) -> Size | None:
    """The baseline of a size, by its finished runs that learned; None where there are fewer than two."""
    head = results.sweep
    runs = [record for record in results.records if record["status"] == DONE and record["row"] == head["baseline"]]
    losses = [number(record, "loss", "final") for record in runs]
    vocabulary = max((number(record, "data", "vocab_size") for record in runs), default=math.nan)
    chance = math.log(vocabulary) if vocabulary > 0 else math.inf
    known = np.array([loss for loss in losses if loss <= chance])
    if len(known) < 2:
        return None
    steps = number(runs[0], "settings", "trainer", "steps")
    return Size(
        head["name"].rpartition("/")[2],
        number(runs[0], "parameters", "total"),
        steps * number(runs[0], "settings", "trainer", "global_batch_tokens"),
        steps * number(runs[0], "flops_per_step"),
        known,
    )
