"""The noise that is left in a table of losses once the effects of its rows and seeds are removed.

Every row trains with the same seeds on the same batches, so the effect of a seed is common to all rows:

    loss[r, s] = row[r] + seed[s] + noise[r, s],    noise[r, s] with variance sigma[r]^2.

The effect of a seed is the median over rows of the losses centred by row, so that an outlying row has no influence on
it (compare Tukey's median polish).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_PASSES = 50  # of centring rows and seeds in turn, where runs are missing


@dataclass(frozen=True)
class Residuals:
    """Residuals of the two-way model, NaN where a run is missing or its seed's effect unknown.

    `values` (rows, seeds) are scaled to the variance of one run. `variance` (rows,) is the sum of a row's squares over
    its `degrees` (rows,) = runs - 1, NaN below two runs. `is_shared` (seeds,) marks the seeds whose effect is known,
    `seed_variance` is the variance of these effects.
    """

    values: np.ndarray
    variance: np.ndarray
    degrees: np.ndarray
    is_shared: np.ndarray
    seed_variance: float

    @property
    def seed_degrees(self) -> int:
        """Degrees of freedom of `seed_variance`."""
        return int(self.is_shared.sum()) - 1


def residuals(losses: np.ndarray, kept_out: np.ndarray | None = None) -> Residuals:
    """Residuals of `losses` (rows, seeds), NaN where a run is missing.

    The rows `kept_out` (rows,) have residuals of their own, but take no part in the effects of the seeds: a row that
    repeats another would halve the noise of both.

    A residual is taken from the median of the *other* rows: with its own row in it, the median would follow the noise
    that is to be measured. It contains the noise of that median, which is scaled out (`_variance_of_median`).
    """
    rows, seeds = losses.shape
    counted = _counted(losses, np.zeros(rows, bool) if kept_out is None else kept_out)
    is_shared = np.asarray(counted.any(0))
    known = np.asarray(~np.isnan(losses) & is_shared)
    values, variance, degrees = np.full((rows, seeds), np.nan), np.full(rows, np.nan), np.maximum(known.sum(1) - 1, 0)
    usable = degrees > 0
    if not (counted.any() and usable.any()):
        return Residuals(values, variance, np.zeros(rows, int), is_shared, np.nan)

    table = np.where(known, losses, np.nan)[np.ix_(usable, is_shared)]
    counted = counted[np.ix_(usable, is_shared)]
    effects, centred = _effects(table, counted)
    columns = [_median_of_others(*column) for column in zip(centred.T, counted.T, strict=True)]
    left = centred - np.array([median for median, _ in columns]).T
    others = np.array([count for _, count in columns]).T
    # The effects of a row's own seeds need not have mean zero; centring takes that out.
    left -= np.nanmean(left, axis=1, keepdims=True)
    scaled = left / np.sqrt(1 + _variance_of_median(others))
    values[np.ix_(usable, is_shared)] = scaled
    variance[usable] = np.nansum(scaled**2, axis=1) / degrees[usable]
    seed_variance = float(np.var(effects, ddof=1)) if len(effects) > 1 else np.nan
    return Residuals(values, variance, degrees, is_shared, seed_variance)


def _counted(losses: np.ndarray, kept_out: np.ndarray) -> np.ndarray:
    """The runs (rows, seeds) from which the effects of seeds are estimated.

    A seed that only one row ran does not show its effect, and a row with one such seed does not show its noise.
    Dropping one may disqualify the other, so it is repeated.
    """
    counted = np.asarray(~np.isnan(losses) & ~kept_out[:, None])
    while True:
        fewer = counted & (counted.sum(0) >= 2) & (counted.sum(1) >= 2)[:, None]
        if (fewer == counted).all():
            return counted
        counted = fewer


def _effects(table: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effects of the seeds (seeds,), with mean zero, and `table` (rows, seeds) centred by row.

    Where runs are missing, the mean of a row depends on the effects of the seeds it has; both are found in turn.
    """
    effects = np.zeros(table.shape[1])
    for _ in range(_PASSES):
        centred = table - np.nanmean(table - effects, axis=1, keepdims=True)
        before, effects = effects, np.nanmedian(np.where(counted, centred, np.nan), axis=0)
        effects = effects - effects.mean()
        if not np.isnan(table).any() or np.abs(effects - before).max() <= 1e-12 * np.abs(effects).max():
            break
    return effects, centred


def _median_of_others(column: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the median of the `counted` values (rows,) of the other rows in `column`, and how many these are.

    Of the sorted values without the one of rank i, the k-th is the (k + 1)-th of all where i <= k, and else the k-th.
    """
    ordered = np.sort(column[counted])
    rank = np.full(len(column), len(ordered))  # of a row that is not counted: after all others
    rank[counted] = np.argsort(np.argsort(column[counted], kind="stable"))
    others = len(ordered) - counted
    lower, upper = (others - 1) // 2, others // 2
    return (ordered[lower + (rank <= lower)] + ordered[upper + (rank <= upper)]) / 2, others


def _variance_of_median(count: np.ndarray) -> np.ndarray:
    """Variance of the median of `count` standard normal values: pi / (2 count), corrected to within 2 % for few."""
    return np.where(count > 1, np.pi / 2 / (count + np.where(count % 2, 0.5, 1.25)), 1.0)
