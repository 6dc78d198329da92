"""One change in several contexts: its mean effect, how much it varies, and what another context may bring.

The effect in context c is measured as y[c] with the standard error e[c]:

    y[c] = mean + d[c] + noise[c],    d[c] of variance tau^2, noise[c] of variance e[c]^2.

tau^2 is that of Paule and Mandel 1982. The interval of the mean is that of Hartung and Knapp 2001, never narrower than
with the known errors (Roever, Knapp and Friede 2015); the prediction interval, for the effect in a context not yet
tried, is that of Higgins, Thompson and Spiegelhalter 2009, with one degree of freedom less than the mean has.

- Paule and Mandel 1982, "Consensus values and weighting factors"
- Hartung and Knapp 2001, "A refined method for the meta-analysis of controlled clinical trials with binary outcome"
- Roever, Knapp and Friede 2015, "Hartung-Knapp-Sidik-Jonkman approach and its modification ..."
- Higgins, Thompson and Spiegelhalter 2009, "A re-evaluation of random-effects meta-analysis"
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
FEWEST_CONTEXTS = 2
FEWEST_FOR_PREDICTION = 4  # contexts; from fewer, tau is not known well enough to say what another one brings


@dataclass(frozen=True)
class AcrossContexts:
    """The mean effect over `contexts` contexts with its 95 % interval and p; NaN below two.

    `tau` is the sd of the effect between contexts, noise removed; `predicted_low` and `predicted_high` hold the effect
    in a further one with 95 % probability, NaN below four contexts.
    """

    contexts: int
    mean: float = math.nan
    error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    tau: float = math.nan
    predicted_low: float = math.nan
    predicted_high: float = math.nan

    @property
    def is_predicted_apart_from_zero(self) -> bool:
        """Whether there is a prediction interval, and it excludes 0."""
        return self.predicted_low > 0 or self.predicted_high < 0


def across_contexts(effects: np.ndarray, errors: np.ndarray, level: float = LEVEL) -> AcrossContexts:
    """Of `effects` with standard `errors` (contexts,), NaN where a context tells nothing; errors are positive."""
    known = ~np.isnan(effects) & ~np.isnan(errors)
    y, e = effects[known], errors[known]
    contexts = len(y)
    if contexts < FEWEST_CONTEXTS:
        return AcrossContexts(contexts, float(y[0]) if contexts else math.nan)
    tau2, _ = between_variance(y[None], e[None], np.ones((contexts, 1)))
    weights = 1 / (e**2 + tau2)
    mean = float(weights @ y / weights.sum())
    spread = float(weights @ (y - mean) ** 2) / (contexts - 1)
    error = math.sqrt(max(1.0, spread) / weights.sum())
    half = error * float(stdtrit(contexts - 1, (1 + level) / 2))
    found = AcrossContexts(
        contexts,
        mean,
        error,
        mean - half,
        mean + half,
        p=float(2 * stdtr(contexts - 1, -abs(mean) / error)),
        tau=math.sqrt(tau2),
    )
    if contexts < FEWEST_FOR_PREDICTION:
        return found
    reach = math.hypot(math.sqrt(tau2), error) * float(stdtrit(contexts - 2, (1 + level) / 2))
    return AcrossContexts(**{**vars(found), "predicted_low": mean - reach, "predicted_high": mean + reach})


def between_variance(effects: np.ndarray, errors: np.ndarray, design: np.ndarray) -> tuple[float, int]:
    """tau^2 that rows have in common, and its degrees of freedom; `effects` and `errors` are (rows, contexts).

    Each row is regressed on `design` (contexts, columns), NaN left out. tau^2 is where the weighted sums of squares
    that are left equal their degrees of freedom (Paule and Mandel 1982); 0 where they are less without any.
    """
    parts = [(y[known], e[known], design[known]) for y, e, known in _known(effects, errors)]
    parts = [(y, e, x[:, x.any(0)]) for y, e, x in parts]
    parts = [(y, e, x) for y, e, x in parts if len(y) > np.linalg.matrix_rank(x)]
    degrees = sum(len(y) - int(np.linalg.matrix_rank(x)) for y, _, x in parts)

    def excess(tau2: float) -> float:
        return sum(left_over(y, 1 / (e**2 + tau2), x) for y, e, x in parts) - degrees

    if degrees < 1 or excess(0.0) <= 0:
        return 0.0, degrees
    high = max(float(np.var(y)) + float(np.max(e**2)) for y, e, _ in parts)
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-12 * high)), degrees


def _known(effects: np.ndarray, errors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each row its effects, their errors, and which of them are known."""
    for y, e in zip(effects, errors, strict=True):
        yield y, e, ~np.isnan(y) & ~np.isnan(e)


def left_over(y: np.ndarray, weights: np.ndarray, design: np.ndarray) -> float:
    """The weighted sum of squares that a weighted regression of `y` on `design` leaves."""
    root = np.sqrt(weights)
    coefficients, *_ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
    return float(np.sum((root * (y - design @ coefficients)) ** 2))
