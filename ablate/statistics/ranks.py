"""How far two rankings of the same rows agree, and how sure that is."""

from __future__ import annotations

import numpy as np
from scipy import stats

FEWEST_ROWS = 5  # a rank correlation over fewer says nothing
FEWEST_FOR_AN_INTERVAL = 10  # below, Fisher's z is narrower than chance
CONFIDENCE = 0.95

Interval = tuple[float, float]


def rank_correlations(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Spearman's and Kendall's, NaN over fewer than 5 rows or where all of a side are equal."""
    if len(ours) < FEWEST_ROWS or not (np.ptp(ours) and np.ptp(theirs)):
        return np.nan, np.nan
    return float(stats.spearmanr(ours, theirs)[0]), float(stats.kendalltau(ours, theirs)[0])


def intervals(spearman: float, kendall: float, rows: int) -> tuple[Interval, Interval]:
    """95 % intervals of both, NaN below 10 rows: Fisher's z, its variance after Bonett and Wright 2000 for Spearman,
    after Fieller et al. 1957 for Kendall."""
    if rows < FEWEST_FOR_AN_INTERVAL:
        return (np.nan, np.nan), (np.nan, np.nan)
    return _fisher(spearman, (1 + spearman**2 / 2) / (rows - 3)), _fisher(kendall, 0.437 / (rows - 4))


def _fisher(correlation: float, variance: float) -> Interval:
    if not np.isfinite(correlation):
        return np.nan, np.nan
    centre = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    reach = stats.norm.ppf(0.5 + CONFIDENCE / 2) * np.sqrt(variance)
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))
