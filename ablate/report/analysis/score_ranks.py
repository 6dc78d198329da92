"""Whether rows with a lower final loss have better scores: rank correlations, ours and those of a published table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.reference import LOSSES, Published
from ablate.report.analysis.score_verdicts import ScoreTable
from ablate.report.analysis.verdicts import BASELINE, NOT_COMPARABLE, UNLEARNED, Verdicts
from ablate.statistics.ranks import Interval, intervals, rank_correlations

PAPER = "narang2021"  # whose columns our scores are named after


@dataclass(frozen=True)
class Correlation:
    """Rank correlations of the final loss with a score over `rows`, positive where a lower loss goes with a better one.

    NaN for fewer than 5 rows, their intervals for fewer than 10.
    """

    rows: int = 0
    spearman: float = np.nan
    spearman_interval: Interval = (np.nan, np.nan)
    kendall: float = np.nan
    kendall_interval: Interval = (np.nan, np.nan)


@dataclass(frozen=True)
class LossAndScore:
    """How the final loss goes with a score here, and in a published table; either may be without rows."""

    score: str
    ours: Correlation = Correlation()
    published: Correlation = Correlation()


def loss_and_scores(verdicts: Verdicts, published: Published) -> list[LossAndScore]:
    """Our scores, in their order, then those that only the published table has."""
    theirs = {score: _published(published, score) for score in published.scores}
    theirs = {score: found for score, found in theirs.items() if found.rows}
    ours = {name: _ours(verdicts, table) for name, table in verdicts.scores.tables.items()}
    names = [*ours, *(score for score in theirs if score not in ours)]
    return [LossAndScore(name, ours.get(name, Correlation()), theirs.get(name, Correlation())) for name in names]


def differences_to_baseline(verdicts: Verdicts, table: ScoreTable) -> dict[str, float]:
    """By row, the baseline's own 0 among them: the score minus the baseline's, the mean over the seeds that both have.

    Rows without such a seed are left out, and those that cannot be compared with the baseline or learned nothing.
    """
    base = table.values.get(verdicts.baseline.label)
    if base is None or not np.isfinite(base).any():
        return {}
    found = {verdicts.baseline.label: 0.0}
    for row in verdicts.rows:
        values = table.values.get(row.label)
        if values is None or not np.isfinite(values - base).any() or row.verdict in (NOT_COMPARABLE, *UNLEARNED):
            continue
        found[row.label] = float(np.nanmean(values - base))
    return found


def _ours(verdicts: Verdicts, table: ScoreTable) -> Correlation:
    scores = differences_to_baseline(verdicts, table)
    rows = [row for row in verdicts if row.label in scores and not row.copy_of]
    losses = np.array([0.0 if row.verdict == BASELINE else row.to_baseline.delta for row in rows])
    return _correlation(losses, np.array([scores[row.label] for row in rows]), table.metric.sign)


def _published(published: Published, score: str) -> Correlation:
    rows = published.rows.values()
    losses, scores = (np.array([row.get(column, np.nan) for row in rows]) for column in (LOSSES[-1], score))
    return _correlation(losses, scores, -1)


def _correlation(losses: np.ndarray, scores: np.ndarray, sign: int) -> Correlation:
    """Of `losses` with `scores` (rows,) as far as both are known; `sign` turns a score so that lower is better."""
    known = np.isfinite(losses + scores)
    spearman, kendall = rank_correlations(losses[known], sign * scores[known])
    rows = int(known.sum())
    of_spearman, of_kendall = intervals(spearman, kendall, rows)
    return Correlation(rows, spearman, of_spearman, kendall, of_kendall)
