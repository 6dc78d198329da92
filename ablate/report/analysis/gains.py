"""What the differences of a sweep are worth in compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ablate.statistics.gain import Gain, Rungs, detectable_gain


@dataclass(frozen=True)
class RowGain:
    """What a row is worth against its control at equal tokens, at equal FLOPs and at equal time.

    The last is known where the timing pass gives the ratio of their speeds with an interval.
    """

    tokens: Gain = field(default_factory=Gain)
    flops: Gain = field(default_factory=Gain)
    time: Gain = field(default_factory=Gain)


@dataclass(frozen=True)
class Gains:
    """The gains of all rows by label; `runs` is how many runs each rung has, by its factor of tokens, 1 included.

    `rungs` is None, and `problem` says why, where the runs of the baseline do not tell what a loss is worth.
    """

    runs: Mapping[float, int]
    rungs: Rungs | None
    problem: str
    rows: Mapping[str, RowGain]

    def detectable(self, difference: float) -> float:
        """The factor of tokens that a difference which is detectable is worth."""
        return detectable_gain(difference, self.rungs)
