"""What each score can tell: its signal and noise, the difference that it would find, and whether runs answer alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.score_ranks import differences_to_baseline
from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable, ScoreVerdict
from ablate.report.analysis.verdicts import Verdicts, median
from ablate.statistics.signal import Signal, signal_of

ALIKE = 0.5  # the share of runs with one and the same value from which it is named
_DIGITS = 9  # to which two values are the same


@dataclass(frozen=True)
class ScorePower:
    """What a score can tell. `detectable` is the median over rows of the true difference that is found with 80 % power.

    `compared` rows have a difference; of `at_chance` of these neither side is known to differ from chance. Of all
    `runs`, `alike` have the same value `common`, which few models share unless they answer every item alike.
    """

    signal: Signal
    detectable: float
    compared: int
    at_chance: int
    runs: int
    alike: int
    common: float

    @property
    def is_constant(self) -> bool:
        """Whether so many runs have the same value that it is likely the value of a constant answer."""
        return self.alike > 1 and self.alike >= ALIKE * self.runs


def power_of(verdicts: Verdicts, table: ScoreTable) -> ScorePower:
    """What one score can tell over the rows that can be compared with the baseline."""
    others = [found for label, found in table.verdicts.items() if label != verdicts.baseline.label]
    counted = {*differences_to_baseline(verdicts, table)}
    rows = [row for row in verdicts if row.label in counted]
    signal = Signal(0)
    if rows:
        values = np.array([table.values[row.label] for row in rows])
        signal = signal_of(values, _item_noise(others), np.array([bool(row.copy_of) for row in rows]))
    values = np.concatenate([*table.values.values()]) if table.values else np.zeros(0)
    known = [float(f"{value:.{_DIGITS}g}") for value in values if np.isfinite(value)]
    common, alike = Counter(known).most_common(1)[0] if known else (np.nan, 0)
    return ScorePower(
        signal,
        median(found.comparison.detectable for found in others if np.isfinite(found.comparison.detectable)),
        sum(bool(np.isfinite(found.comparison.delta)) for found in others),
        sum(found.verdict == AT_CHANCE for found in others),
        len(known),
        alike,
        common,
    )


def _item_noise(found: list[ScoreVerdict]) -> float:
    """What the choice of the items adds to the sd of one row; NaN where unknown.

    Of a difference that part of the variance is the sum of both rows', taken to be equal.
    """
    errors = [one.comparison.item_error for one in found]
    known = [error for error in errors if np.isfinite(error)]
    return float(np.sqrt(np.mean(np.square(known)) / 2)) if known else np.nan
