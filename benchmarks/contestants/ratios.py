"""Ratios of two contestants that took turns: a number for each round, their median and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
COVERAGE = 0.95


@dataclass(frozen=True)
class Ratio:
    """The median over rounds with its bootstrap interval of 95 %."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def to_json(self) -> list[float]:
        """Median, low, high."""
        return [round(number, 4) for number in (self.median, self.low, self.high)]


def speed(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Our speed over theirs, from the seconds of both in the same rounds: above 1 where ours is faster.

    A round in which the machine was busy slows both, so that the ratio is taken within each round, and the rounds are
    resampled, not the times. Raises ValueError where the rounds are not the same or there are none.
    """
    if len(ours) != len(theirs) or len(ours) == 0:
        raise ValueError(f"{len(ours)} and {len(theirs)} rounds: a ratio is of the same rounds")
    rounds = np.asarray(theirs) / np.asarray(ours)
    drawn = np.random.default_rng(0).integers(0, len(rounds), (RESAMPLES, len(rounds)))
    tail = 50 * (1 - COVERAGE)
    low, high = np.percentile(np.median(rounds[drawn], axis=1), [tail, 100 - tail])
    return Ratio(float(np.median(rounds)), float(low), float(high))
