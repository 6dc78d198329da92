"""What the next size will bring: effects at several sizes, and the prediction of those at a size not yet run.

    effect[row, size] = mean[row] + beta[row] x[size] + noise[row] - noise of the size's control,    x = ln(size)

The slope beta[row] is normal around 0 with an sd that all rows share: where slopes are small, a row's own line would
only follow its noise, and the mean over sizes would miss a real one. The sd is not known: it is averaged over, by its
restricted likelihood (Patterson and Thompson 1971) and a half-normal prior. All of this is linear and normal given the
sd, so the prediction is a mixture of normal distributions over a grid of it.

The loss of the baseline itself is continued in `trend`, which does not know how soon it will level off either.

- Patterson and Thompson 1971, "Recovery of inter-block information when block sizes are unequal"
- Satterthwaite 1946, "An approximate distribution of estimates of variance components"
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, stdtr

PRIOR_SD = 0.1  # of the half-normal prior of the sd of slopes, in units of effects per factor of e in size
FEWEST_SIZES = 2
_GRID = np.linspace(0.0, 4.0, 41)  # of the sd, over that of its prior
STEEPEST = 0.5  # exponent by which a loss approaches its limit along a ladder; published ones are .05 to .35
_EXPONENTS = np.linspace(0.0, STEEPEST, 41)
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
    `prior_sd` is that of the prior of the slopes' sd, in the unit of the effects.
    """

    effects: np.ndarray
    errors: np.ndarray
    control: np.ndarray
    x: np.ndarray
    prior_sd: float = PRIOR_SD

    def predict(
        self,
        x: float,
        errors: np.ndarray | None = None,
        control: float = 0.0,
        level: float = 0.95,
        degrees: float = math.inf,
    ) -> Prediction:
        """The effects at the size exp(x); with `errors` (rows,) and `control`, as measured there with these errors.

        `degrees` are those of freedom with which the errors are known: intervals have the tails of Student's t.
        NaN for rows without an effect at any size. Raises `ValueError` below two sizes.
        """
        if np.count_nonzero(~np.isnan(self.effects).all(0)) < FEWEST_SIZES:
            raise ValueError(f"a forecast needs {FEWEST_SIZES} sizes")
        rows = len(self.effects)
        noise = np.zeros(rows) if errors is None else np.nan_to_num(errors)
        known = np.flatnonzero(~np.isnan(self.effects).all(1))
        posteriors = [self._given(sd, x, known) for sd in _GRID * self.prior_sd]
        weights = _weights(np.array([log for log, _, _ in posteriors]) - 0.5 * _GRID**2)
        means = np.array([mean for _, mean, _ in posteriors])  # (grid, known)
        variances = np.array([variance for _, _, variance in posteriors]) + noise[known] ** 2 + control**2
        mean = weights @ means
        sd = np.sqrt(weights @ (variances + (means - mean) ** 2))
        found = np.full((4, rows), np.nan)
        found[0, known], found[1, known] = mean, sd
        for place, row in enumerate(known):
            parts = means[:, place], np.sqrt(variances[:, place])
            found[2:, row] = [_quantile(weights, *parts, (1 + side * level) / 2, degrees) for side in (-1, 1)]
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


@dataclass(frozen=True)
class Noise:
    """The standard errors of rows (rows, sizes) and of their controls (sizes,), and their degrees of freedom."""

    errors: np.ndarray
    control: np.ndarray
    degrees: float

    @classmethod
    def pooled(cls, own: np.ndarray, control: np.ndarray, seeds: np.ndarray) -> Noise:
        """From the errors `own` (rows, sizes) of each row at each size alone, over `seeds` (rows, sizes); NaN if none.

        The variance of a row's runs is the mean of its own, over all sizes, and of that of all rows: few seeds tell
        little of a row by itself, and rows differ in their noise. As the second is known well, the mean has four times
        the degrees of freedom of the first (Satterthwaite 1946).
        """
        variances = own**2 * seeds
        known = ~np.isnan(variances)
        counts = np.maximum(known.sum(1), 1)
        of_rows = np.where(known, variances, 0.0).sum(1) / counts
        together = float(variances[known].mean())
        mean = np.where(known.any(1), (of_rows + together) / 2, np.nan)
        degrees = np.where(known, seeds - 1, 0).sum(1)[known.any(1)]
        return cls(
            np.where(known, np.sqrt(mean[:, None] / np.maximum(seeds, 1)), np.nan),
            np.full(len(control), math.sqrt(float(np.mean(control**2)))),
            4.0 * max(1.0, float(np.median(degrees))),
        )


def trend(
    losses: np.ndarray,
    errors: np.ndarray,
    x: np.ndarray,
    at: float,
    error: float = 0.0,
    level: float = 0.95,
    degrees: float = math.inf,
) -> Prediction:
    """The loss (1,) at the size exp(`at`), as measured there with a standard `error`, from those of a ladder of sizes.

    `losses` (sizes,) have the standard `errors`, the sizes the logarithms `x`. The loss approaches a limit as a power
    of the size, L = limit + B exp(-a x), where nothing is known of limit and B, and as little of a as that it lies
    between 0, a straight line, and `STEEPEST`: the prediction is the mixture over it. `degrees` as in `predict`. Raises
    `ValueError` below two sizes.
    """
    if len(losses) < FEWEST_SIZES:
        raise ValueError(f"a forecast needs {FEWEST_SIZES} sizes")
    parts = [_along(exponent, losses, errors, x - x[0], at - x[0]) for exponent in _EXPONENTS]
    weights = _weights(np.array([log for log, _, _ in parts]))
    means = np.array([mean for _, mean, _ in parts])
    variances = np.array([variance for _, _, variance in parts]) + error**2
    mean = float(weights @ means)
    sd = math.sqrt(float(weights @ (variances + (means - mean) ** 2)))
    bounds = [_quantile(weights, means, np.sqrt(variances), (1 + side * level) / 2, degrees) for side in (-1, 1)]
    return Prediction(*(np.array([value]) for value in (mean, sd, *bounds)))


def _along(exponent: float, y: np.ndarray, errors: np.ndarray, x: np.ndarray, at: float) -> tuple[float, float, float]:
    """The log restricted likelihood of an exponent, and mean and variance of the loss at `at`."""

    def shape(of: np.ndarray) -> np.ndarray:
        fallen = of if exponent == 0 else -np.expm1(-exponent * of) / exponent
        return np.stack([np.ones_like(of), -fallen], axis=-1)

    design, weights = shape(x), 1 / errors**2
    precision = design.T @ (weights[:, None] * design)
    covariance = np.linalg.inv(precision)
    found = covariance @ design.T @ (weights * y)
    left = float(weights @ (y - design @ found) ** 2)
    place = shape(np.array([at]))[0]
    # the scale of B is that of the slope at the smallest size for every exponent, so that their flat priors are alike
    log = -0.5 * left - 0.5 * float(np.linalg.slogdet(precision)[1])
    return log, float(place @ found), float(place @ covariance @ place)


def _weights(logs: np.ndarray) -> np.ndarray:
    """Likelihoods, given by their logarithms, as weights that add up to 1."""
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _quantile(weights: np.ndarray, means: np.ndarray, sds: np.ndarray, probability: float, degrees: float) -> float:
    """Of a mixture of t distributions with these scales; normal ones where `degrees` are infinite."""

    def excess(value: float) -> float:
        z = (value - means) / sds
        return float(weights @ (ndtr(z) if math.isinf(degrees) else stdtr(degrees, z))) - probability

    reach = 60 * float(np.max(sds))
    return float(brentq(excess, float(means.min()) - reach, float(means.max()) + reach))
