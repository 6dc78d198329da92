"""How well two rankings of the same rows agree, and with what confidence."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

FEWEST_ROWS = 5  # a rank correlation of fewer is meaningless
FEWEST_FOR_AN_INTERVAL = 10  # with fewer, an interval by Fisher's z is too narrow
CONFIDENCE = 0.95

Interval = tuple[float, float]


def rank_correlations(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Spearman's rho and Kendall's tau-b of `ours` and `theirs` (rows,); NaN below 5 rows or if a side is constant."""
    if len(ours) < FEWEST_ROWS or not (np.ptp(ours) and np.ptp(theirs)):
        return np.nan, np.nan
    from scipy import stats  # takes a second, and most reports compare no ranks

    return float(stats.spearmanr(ours, theirs)[0]), float(stats.kendalltau(ours, theirs)[0])


def intervals(spearman: float, kendall: float, rows: int) -> tuple[Interval, Interval]:
    """95 % intervals of both correlations over `rows` rows, by Fisher's z; NaN below 10 rows.

    The variance of z is (1 + rho^2 / 2) / (rows - 3) for Spearman (Bonett and Wright 2000) and 0.437 / (rows - 4) for
    Kendall (Fieller, Hartley and Pearson 1957).
    """
    if rows < FEWEST_FOR_AN_INTERVAL:
        return (np.nan, np.nan), (np.nan, np.nan)
    return _fisher(spearman, (1 + spearman**2 / 2) / (rows - 3)), _fisher(kendall, 0.437 / (rows - 4))


def _fisher(correlation: float, variance: float) -> Interval:
    """tanh(artanh(r) +- z_0.975 sqrt(variance)), which stays within -1 and 1."""
    if not np.isfinite(correlation):
        return np.nan, np.nan
    centre = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    reach = ndtri(0.5 + CONFIDENCE / 2) * np.sqrt(variance)
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))
