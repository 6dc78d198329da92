"""How many times as fast one thing is as another, from rounds in which both were measured one after the other.

With d[i] = log(speed[i] / base[i]) over the n rounds that both have, the ratio is exp(mean d), and its interval

    exp(mean d ± t * sd(d) / sqrt(n)),   t the 98.5 % quantile of Student's t with n - 1 degrees of freedom.

What slows a whole round down leaves d as it is; logarithms make "twice" and "half" equally far from 1. An interval that
is measured until it is narrow has stopped at a low sd more often than at a high one: with a nominal 97 % it holds the
true ratio in 95 % of simulated passes that end as soon as it is narrower than 3 %, from 5 rounds on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
NOMINAL = 0.97  # what is computed, so that `CONFIDENCE` holds although measuring stops at a narrow interval
FEWEST_ROUNDS = 5
NARROW = 0.03  # width of an interval that needs no further rounds, as a part of the ratio


@dataclass(frozen=True)
class SpeedRatio:
    """The ratio of two speeds over `rounds` paired rounds with its 95 % interval; NaN where unknown."""

    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rounds: int = 0

    @property
    def differs(self) -> bool:
        """Whether the interval is known and excludes 1."""
        return self.low > 1 or self.high < 1

    @property
    def is_narrow(self) -> bool:
        """Whether further rounds are not needed."""
        return self.rounds >= FEWEST_ROUNDS and self.high - self.low < NARROW * self.ratio


def speed_ratio(speeds: Sequence[float], base: Sequence[float]) -> SpeedRatio:
    """The ratio of `speeds` to `base`, both a positive number a round from the first round on.

    Rounds that only one side has are not used; fewer than `FEWEST_ROUNDS` paired ones give no interval.
    """
    rounds = min(len(speeds), len(base))
    if not rounds:
        return SpeedRatio()
    logs = [math.log(mine / other) for mine, other in zip(speeds, base, strict=False)]
    middle = statistics.fmean(logs)
    if rounds < FEWEST_ROUNDS:
        return SpeedRatio(math.exp(middle), rounds=rounds)
    from scipy.special import stdtrit

    half = float(stdtrit(rounds - 1, 0.5 + NOMINAL / 2)) * statistics.stdev(logs) / math.sqrt(rounds)
    return SpeedRatio(math.exp(middle), math.exp(middle - half), math.exp(middle + half), rounds)
