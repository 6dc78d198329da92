"""What the next size will bring: effects at several sizes, and the prediction of those at a size not yet run.

    effect[row, size] = mean[row] + beta[row] x[size] + noise[row] - noise of the size's control,    x = ln(size)

The slope beta[row] is normal around 0 with an sd that all rows share: where slopes are small, a row's own line would
only follow its noise, and the mean over sizes would miss a real one. The sd is not known: it is averaged over, by its
restricted likelihood (Patterson and Thompson 1971) and a half-normal prior. All of this is linear and normal given the
sd, so the prediction is a mixture of normal distributions over a grid of it.

- Patterson and Thompson 1971, "Recovery of inter-block information when block sizes are unequal"
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

PRIOR_SD = 0.1  # of the half-normal prior of the sd of slopes, in units of effects per factor of e in size
FEWEST_SIZES = 2
_GRID = np.linspace(0.0, 4.0, 41) * PRIOR_SD
_FLAT = 1e6  # variance of a mean about which nothing is known, times the largest square of an effect


@dataclass(frozen=True)
class Prediction:
    """The effects (rows,) foreseen at a size, and the sd of what is not known of each."""

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Ladder:
    """Effects (rows, sizes), NaN where a run is missing, at sizes whose logarithms are `x` (sizes,).

    `errors` (rows, sizes) are the standard errors of the rows alone, `control` (sizes,) those of the controls.
    """

    effects: np.ndarray
    errors: np.ndarray
    control: np.ndarray
    x: np.ndarray

    def predict(
        self, x: float, errors: np.ndarray | None = None, control: float = 0.0, level: float = 0.95
    ) -> Prediction:
        """The effects at the size exp(x); with `errors` (rows,) and `control`, as measured there with these errors.

        NaN for rows without an effect at any size. Raises `ValueError` below two sizes.
        """
        if np.count_nonzero(~np.isnan(self.effects).all(0)) < FEWEST_SIZES:
            raise ValueError(f"a forecast needs {FEWEST_SIZES} sizes")
        rows = len(self.effects)
        noise = np.zeros(rows) if errors is None else np.nan_to_num(errors)
        known = np.flatnonzero(~np.isnan(self.effects).all(1))
        posteriors = [self._given(sd, x, known) for sd in _GRID]
        logs = np.array([log for log, _, _ in posteriors]) - 0.5 * (_GRID / PRIOR_SD) ** 2
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        means = np.array([mean for _, mean, _ in posteriors])  # (grid, known)
        variances = np.array([variance for _, _, variance in posteriors]) + noise[known] ** 2 + control**2
        mean = weights @ means
        sd = np.sqrt(weights @ (variances + (means - mean) ** 2))
        found = np.full((4, rows), np.nan)
        found[0, known], found[1, known] = mean, sd
        for place, row in enumerate(known):
            parts = means[:, place], np.sqrt(variances[:, place])
            found[2:, row] = [_quantile(weights, *parts, (1 + side * level) / 2) for side in (-1, 1)]
        return Prediction(*found)

    def _given(self, sd: float, x: float, known: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The log restricted likelihood of an sd of the slopes, and mean and variance (known,) of the effects at x."""
        rows, sizes = np.nonzero(~np.isnan(self.effects))
        y = self.effects[rows, sizes]
        places = np.searchsorted(known, rows)
        origin = float(self.x.mean())
        along = self.x[sizes] - origin
        flat = _FLAT * float(np.max(y**2))
        same_row, same_size = rows[:, None] == rows, sizes[:, None] == sizes
        covariance = np.where(same_row, flat + sd**2 * np.outer(along, along), 0.0)
        covariance += np.where(same_size, self.control[sizes][:, None] ** 2, 0.0)
        covariance += np.diag(self.errors[rows, sizes] ** 2)
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, y)
        likelihood = -0.5 * float(white @ white) - float(np.log(np.diag(factor)).sum())
        # covariance of what is measured with the effects at x: (measured, known)
        cross = np.where(places[:, None] == np.arange(len(known)), flat + sd**2 * (along * (x - origin))[:, None], 0.0)
        solved = np.linalg.solve(factor, cross)
        mean = solved.T @ white
        variance = flat + sd**2 * (x - origin) ** 2 - (solved**2).sum(0)
        return likelihood, mean, np.maximum(variance, 0.0)


def _quantile(weights: np.ndarray, means: np.ndarray, sds: np.ndarray, probability: float) -> float:
    """Of a mixture of normal distributions."""

    def excess(value: float) -> float:
        return float(weights @ ndtr((value - means) / sds)) - probability

    reach = 12 * float(np.max(sds))
    return float(brentq(excess, float(means.min()) - reach, float(means.max()) + reach))
