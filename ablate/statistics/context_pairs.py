"""How well two contexts agree about the same changes, beside how well they could, given the noise of both.

The effects of rows (rows,) are differences from one control in each context. That control's own noise moves all of a
context's effects alike: it changes no order, but it does change signs.

- Spearman 1904, "The proof and measurement of association between two things" (correlation corrected by reliability)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

SIMULATIONS = 2000
LOWEST = 0.05
FEWEST_ROWS = 3


@dataclass(frozen=True)
class Agreement:
    """Two contexts over `rows` rows; NaN where unknown.

    `decisions` is the share of pairs of rows that both order alike, `signs` that of rows with the same sign. `ceiling`
    and `ceiling_low` are the median and the 5 % quantile that `decisions` would have if nothing but noise came between
    them. `corrected` is Pearson's correlation `pearson` over the root of both reliabilities, at most 1. `ratio` is by
    how much effects in the second context are larger, from a line through 0 with errors in both.
    """

    rows: int
    signs: float = math.nan
    decisions: float = math.nan
    ceiling: float = math.nan
    ceiling_low: float = math.nan
    spearman: float = math.nan
    pearson: float = math.nan
    corrected: float = math.nan
    ratio: float = math.nan


def agreement(
    first: np.ndarray, second: np.ndarray, first_errors: np.ndarray, second_errors: np.ndarray, control: np.ndarray
) -> Agreement:
    """Of effects (rows,) and the standard errors of the rows alone (rows,), NaN where a row is missing in a context.

    `control` (2,) are the standard errors of the controls in both contexts.
    """
    known = ~np.isnan(first + second + first_errors + second_errors)
    a, b, of_a, of_b = (values[known] for values in (first, second, first_errors, second_errors))
    rows = len(a)
    if rows < FEWEST_ROWS or not (np.ptp(a) and np.ptp(b)):
        return Agreement(rows)
    decided = _decisions(a[None], b[None])[0]
    median, low = _ceiling(a, b, of_a, of_b, control)
    pearson = float(np.corrcoef(a, b)[0, 1])
    reliable = reliability(a, of_a) * reliability(b, of_b)
    return Agreement(
        rows,
        signs=float(np.mean(np.sign(a) == np.sign(b))),
        decisions=float(decided),
        ceiling=median,
        ceiling_low=low,
        spearman=float(stats.spearmanr(a, b)[0]),
        pearson=pearson,
        corrected=min(1.0, pearson / math.sqrt(reliable)) if reliable > 0 else math.nan,
        ratio=_ratio(a, b, of_a, of_b),
    )


def reliability(effects: np.ndarray, errors: np.ndarray) -> float:
    """The share of the variance of effects (rows,) over rows that is not noise, at least 0."""
    variance = float(np.var(effects, ddof=1))
    return max(0.0, 1 - float(np.mean(errors**2)) / variance) if variance else 0.0


def _decisions(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(simulations,): the share of pairs of rows that two (simulations, rows) order alike."""
    first, second = np.triu_indices(a.shape[1], 1)
    return np.asarray((np.sign(a[:, first] - a[:, second]) == np.sign(b[:, first] - b[:, second])).mean(1))


def _ceiling(
    a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray, control: np.ndarray
) -> tuple[float, float]:
    """Median and 5 % quantile of the share of pairs ordered alike if both contexts had the same true effects.

    These are the weighted means of both, drawn towards their middle by as much as noise has spread them.
    """
    weights = 1 / of_a**2, 1 / of_b**2
    truth = (weights[0] * a + weights[1] * b) / (weights[0] + weights[1])
    truth = truth.mean() + math.sqrt(reliability(truth, (weights[0] + weights[1]) ** -0.5)) * (truth - truth.mean())
    generator = np.random.default_rng(2021)

    def measured(errors: np.ndarray, of_control: float) -> np.ndarray:
        noise = generator.normal(size=(SIMULATIONS, len(errors) + 1))
        return np.asarray(truth + errors * noise[:, 1:] - of_control * noise[:, :1])

    found = _decisions(measured(of_a, float(control[0])), measured(of_b, float(control[1])))
    return float(np.median(found)), float(np.quantile(found, LOWEST))


def _ratio(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray) -> float:
    """The slope of b over a through 0 with errors in both (Deming 1943), their variances taken as the means."""
    weight = float(np.mean(of_b**2) / np.mean(of_a**2))
    aa, bb, ab = float(a @ a), float(b @ b), float(a @ b)
    if ab == 0:
        return math.nan
    middle = bb - weight * aa
    return (middle + math.sqrt(middle**2 + 4 * weight * ab**2)) / (2 * ab)
