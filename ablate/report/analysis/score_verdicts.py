"""What a report says of the scores of evaluations: for each score, how every row differs from its control."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ablate.report.analysis.metrics import Metric
from ablate.statistics.comparison import Comparison

AT_CHANCE = "at chance"
PAIRED, UNPAIRED, SEEDS_ONLY = "paired by item", "unpaired", ""  # how the noise of a difference's items is known


@dataclass(frozen=True)
class ScoreVerdict:
    """One row and one score, against the row's control.

    The `comparison` is row minus control in the score's own unit: whether a positive difference is a gain, the metric
    says. Its `p_adjusted` counts all rows and all scores of the family, so that it is held against ALPHA; its interval
    is at the table's share of that. Its `item_error` is what the finite number of items adds to the standard error;
    `item_noise` says how that is known, and `item_note` why it is not known better, such as outcomes that are missing.
    """

    row: str
    control: str
    comparison: Comparison
    verdict: str  # BETTER, WORSE, UNDECIDED, AT_CHANCE, NO_VERDICT, NOT_COMPARABLE, HAS_DIVERGED or BASELINE
    why: str = ""
    item_noise: str = SEEDS_ONLY
    item_note: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """One score over all rows.

    `values` are each row's by seed, (seeds,) in the order of all seeds of the sweep, NaN where missing; the baseline's
    are first. `verdicts` has an entry a row, the baseline's among them. `alpha` is the error rate of the table, a
    share of that of its family: all primary scores, or all exploratory ones. `noise` is the sd over the baseline's
    seeds. `items` and `chance` are NaN where unknown; `item_noise` is the least that is known of the items of any
    tested row. `not_comparable` says why the figures are not comparable with published ones, empty where they are or
    nothing is said.
    """

    metric: Metric
    is_primary: bool
    chance: float
    items: float
    values: dict[str, np.ndarray]
    verdicts: dict[str, ScoreVerdict]
    alpha: float
    noise: float
    item_noise: str
    not_comparable: str


@dataclass(frozen=True)
class ScoreVerdicts:
    """The tables of a sweep's scores by name: the primary ones first, each kind in alphabetical order."""

    tables: dict[str, ScoreTable] = field(default_factory=dict)

    @property
    def primary(self) -> list[ScoreTable]:
        """The averages and the one figure of an evaluation: one family."""
        return [table for table in self.tables.values() if table.is_primary]

    @property
    def exploratory(self) -> list[ScoreTable]:
        """Single tasks, and secondary figures of a task: a family of their own."""
        return [table for table in self.tables.values() if not table.is_primary]
