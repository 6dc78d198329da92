"""What a report says of the rows of a sweep: their costs, their losses, and the verdict that the evidence supports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ablate.report.analysis.gains import Gains
from ablate.report.analysis.metrics import Metric
from ablate.report.analysis.score_verdicts import ScoreVerdicts
from ablate.run.record import Timing
from ablate.statistics.comparison import Comparison
from ablate.statistics.speed_ratio import SpeedRatio, speed_ratio
from ablate.study.expectations import Expectation

BASELINE = "baseline"
BETTER, WORSE, UNDECIDED, SAME = "better", "worse", "no difference detected", "the same"
NO_VERDICT, NOT_COMPARABLE, HAS_DIVERGED, ABOVE_CHANCE = "no verdict", "not comparable", "diverged", "above chance"
UNLEARNED = (HAS_DIVERGED, ABOVE_CHANCE)  # the row has runs without a valid final loss
UNKNOWN = Comparison(seeds=0)
BUDGET_TOLERANCE = 0.02  # of the control's FLOPs; rows that differ by more are flagged


@dataclass(frozen=True)
class Row:
    """One row of the sweep over all its seeds; losses in nats a token, NaN where unknown.

    Of the finished runs, `lost` ended above `chance`, the loss of a uniform guess, and of these `rising` ended no lower
    than they had been at the early loss. `speed` is in steps a second, measured with no other run under way where
    `is_exclusive`; `timing` is then what is known of the rounds.

    The row is compared with `control`, by default the baseline: `comparison` and `early_comparison` are to it, and so
    is `budget`, the relative difference of a whole run's FLOPs. `to_baseline` and `early_to_baseline` are the same two
    comparisons with the baseline, whatever the control. `only_seeds` marks a row that changes only seeds (A/A),
    `copy_of` names an earlier row whose runs have the same identities, `is_apart` says that one seed lies apart, and
    `within` is the margin of the verdict "the same". `expected` is what the sweep file expects of the row.
    """

    label: str
    section: str
    overrides: tuple[str, ...]
    planned: int
    done: int
    diverged: int
    failed: int
    lost: int
    rising: int
    chance: float
    early: np.ndarray  # (seeds,), in the order of all seeds of the sweep, as `final`
    final: np.ndarray
    parameters: dict[str, float]
    ops_paper: float
    flops_per_step: float
    steps: float
    speed: float
    is_exclusive: bool
    timing: Timing | None
    memory: float
    bits_per_byte: float
    downstream: dict[str, list[float]]
    settings: dict[str, Any]
    data: dict[str, Any]
    schema: int  # of the identity of its runs
    rounded: tuple[str, ...] = ()  # numbers of a preset that the shape lets it have only about
    mixed: str = ""  # why its own runs are not repetitions of one another, such as "different data"
    control: str = ""
    counts: bool = True
    expected: Expectation | None = None
    comparison: Comparison = UNKNOWN
    early_comparison: Comparison = UNKNOWN
    to_baseline: Comparison = UNKNOWN
    early_to_baseline: Comparison = UNKNOWN
    verdict: str = NO_VERDICT
    why: str = ""
    budget: float = np.nan
    within: float = np.nan
    only_seeds: bool = False
    copy_of: str = ""
    is_apart: bool = False

    @property
    def is_change(self) -> bool:
        """Whether the row is one of the changes that the sweep asks about."""
        return self.counts and not self.only_seeds and not self.copy_of

    @property
    def above_chance(self) -> list[str]:
        """How many of its runs ended above chance, those whose loss was still falling and the others."""
        above = f"of {self.planned} seeds ended above the loss of a uniform guess, {self.chance:.2f}"
        counts = {", still falling": self.lost - self.rising, ", and no lower than before": self.rising}
        return [f"{count} {above}{how}" for how, count in counts.items() if count]

    @property
    def words(self) -> str:
        """The verdict as a report states it."""
        return f"{SAME} within {self.within:g}" if self.verdict == SAME else self.verdict

    @property
    def is_as_expected(self) -> bool | None:
        """Whether the verdict is the one that the sweep file expects; None where nothing is expected, or it is open."""
        if self.expected is None or self.verdict not in (BETTER, WORSE, SAME):
            return None
        return {BETTER: "better", WORSE: "worse", SAME: "equal"}[self.verdict] == self.expected.word

    @property
    def learned(self) -> int:
        """Runs with a valid final loss."""
        return int(np.isfinite(self.final).sum())

    @property
    def missing(self) -> int:
        """Planned runs without a result: not started, stopped or still running."""
        return max(0, self.planned - self.done - self.diverged - self.failed)


@dataclass(frozen=True)
class Verdicts:
    """The rows of a sweep in the order of its file; `noise` is the sd of the baseline's final loss over its seeds.

    `metrics` says of each downstream score, by name, what it measures, and `scores` how the rows differ in it. `gains`
    are what the differences are worth in compute; None where the sweep asks for no rungs. `context` is the one in
    which the rows ran; empty where the sweep has none.
    """

    baseline: Row
    rows: list[Row]
    noise: float
    seed_variance: float
    metrics: dict[str, Metric] = field(default_factory=dict)
    scores: ScoreVerdicts = field(default_factory=ScoreVerdicts)
    gains: Gains | None = None
    context: str = ""

    def __iter__(self) -> Iterator[Row]:
        return iter((self.baseline, *self.rows))

    def row(self, label: str) -> Row:
        """The row with this label."""
        return next(row for row in self if row.label == label)

    @property
    def sections(self) -> list[str]:
        """The sections in the order of the sweep file."""
        return list(dict.fromkeys(row.section for row in self.rows))

    def ordered(self) -> list[Row]:
        """The rows by section, the best first within each, those without a difference last."""
        place = {section: number for number, section in enumerate(self.sections)}
        known = [math.isfinite(row.comparison.delta) for row in self.rows]
        keys = [
            (place[row.section], not is_known, row.comparison.delta if is_known else 0.0)
            for row, is_known in zip(self.rows, known, strict=True)
        ]
        return [row for _, row in sorted(zip(keys, self.rows, strict=True), key=lambda pair: pair[0])]

    @property
    def changes(self) -> list[Row]:
        """The rows that the sweep asks about."""
        return [row for row in self.rows if row.is_change]

    def of(self, *verdicts: str) -> list[Row]:
        """The changes with one of these verdicts."""
        return [row for row in self.changes if row.verdict in verdicts]

    @property
    def against(self) -> dict[str, list[Row]]:
        """The rows that are not compared with the baseline, by the label of the row that they are compared with."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.control != self.baseline.label:
                found.setdefault(row.control, []).append(row)
        return found


def comparable_speeds(verdicts: Verdicts) -> dict[str, float]:
    """Steps a second by row, all measured like the baseline's: with no other run under way, or during training.

    NaN for a row that was measured the other way.
    """
    alone = verdicts.baseline.is_exclusive
    return {row.label: row.speed if row.is_exclusive == alone else np.nan for row in verdicts}


def speed_relative_to(row: Row, other: Row) -> SpeedRatio:
    """The speed of a row relative to that of another one; with an interval where both were timed in the same pass.

    NaN where one was measured with no other run under way, and the other during training.
    """
    if row.timing and other.timing and row.timing.began == other.timing.began:
        return speed_ratio(row.timing.rounds, other.timing.rounds)
    return SpeedRatio(ratio(row.speed, other.speed) if row.is_exclusive == other.is_exclusive else np.nan)


def timed_speed(row: Row, other: Row) -> SpeedRatio:
    """As `speed_relative_to`, but unknown (NaN) where the timing pass gives no interval of the ratio.

    Whatever is concluded from speeds rests on this one: without rounds, a ratio may be off by a fifth.
    """
    found = speed_relative_to(row, other)
    return found if math.isfinite(found.low) else SpeedRatio()


def ratio(value: float, base: float) -> float:
    """`value` over `base`; NaN where `base` is zero."""
    return value / base if base else np.nan


def mean(values: Iterable[float]) -> float:
    """The mean of the known values; NaN where there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else np.nan


def spread(values: Iterable[float]) -> float:
    """The sample sd of the known values; NaN for fewer than two."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else np.nan


def median(values: Iterable[float]) -> float:
    """The median of the known values; NaN where there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.median(known)) if known else np.nan
