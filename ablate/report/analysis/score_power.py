"""What each score can tell: its signal and noise, the difference that it would find, and whether runs answer alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.items_jsonl import ItemValues, Run
from ablate.report.analysis.score_ranks import differences_to_baseline
from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable, ScoreVerdict
from ablate.report.analysis.verdicts import Verdicts, median
from ablate.statistics.signal import Signal, signal_of

ALIKE = 0.5  # the share of runs with the same items right from which that is named
FEWEST_RUNS = 3  # that say anything by being alike
_DIGITS = 9  # to which two values are the same


@dataclass(frozen=True)
class ScorePower:
    """What a score can tell. `detectable` is the median over rows of the true difference that is found with 80 % power.

    `compared` rows have a difference; of `at_chance` of these neither side is known to differ from chance. Of the
    `runs`, `alike` have the same value of every item, and so the score `common`: few models do, unless they give every
    item the same answer. Where the values of items are not known (not `by_item`), the score itself is the same.
    """

    signal: Signal
    detectable: float
    compared: int
    at_chance: int
    runs: int
    alike: int
    common: float
    by_item: bool

    @property
    def is_constant(self) -> bool:
        """Whether so many runs are alike that a constant answer is likely: most by item, or all by their scores."""
        least = ALIKE * self.runs if self.by_item else self.runs
        return self.runs >= FEWEST_RUNS and self.alike >= least


def power_of(verdicts: Verdicts, table: ScoreTable, items: Mapping[Run, ItemValues] | None = None) -> ScorePower:
    """What one score can tell over the rows that can be compared with the baseline; `items` by row, seed and score."""
    others = [found for label, found in table.verdicts.items() if label != verdicts.baseline.label]
    counted = {*differences_to_baseline(verdicts, table)}
    rows = [row for row in verdicts if row.label in counted]
    signal = Signal(0)
    if rows:
        values = np.array([table.values[row.label] for row in rows])
        signal = signal_of(values, _item_noise(others), np.array([bool(row.copy_of) for row in rows]))
    return ScorePower(
        signal,
        median(found.comparison.detectable for found in others if np.isfinite(found.comparison.detectable)),
        sum(bool(np.isfinite(found.comparison.delta)) for found in others),
        sum(found.verdict == AT_CHANCE for found in others),
        *_alike(table, items or {}),
    )


def _alike(table: ScoreTable, items: Mapping[Run, ItemValues]) -> tuple[int, int, float, bool]:
    """How many runs there are, how many of them are alike, their score, and whether they are so item by item."""
    name = table.metric.name
    vectors = [found for (row, _, score), found in items.items() if score == name and row in table.values]
    if vectors:
        kinds = Counter((found.ids, found.values.tobytes()) for found in vectors)
        kind, alike = kinds.most_common(1)[0]
        common = next(found for found in vectors if (found.ids, found.values.tobytes()) == kind)
        return len(vectors), alike, float(common.values.mean()), True
    values = [value for of_row in table.values.values() for value in of_row if np.isfinite(value)]
    known = Counter(float(f"{value:.{_DIGITS}g}") for value in values)
    shared, alike = known.most_common(1)[0] if known else (np.nan, 0)
    return len(values), alike, shared, False


def _item_noise(found: list[ScoreVerdict]) -> float:
    """What the choice of the items adds to the sd of one row; NaN where unknown.

    Of a difference that part of the variance is the sum of both rows', taken to be equal.
    """
    errors = [one.comparison.item_error for one in found]
    known = [error for error in errors if np.isfinite(error)]
    return float(np.sqrt(np.mean(np.square(known)) / 2)) if known else np.nan
