"""Whether a change carries over: the verdict on each row over several contexts, at 5 % over the table.

- *transfers*: the 95 % prediction interval excludes 0, and so does the mean after Holm's correction over the rows.
- *flips*: in two contexts it differs from its control with opposite signs. The p of a context holds over the rows
  there; it is multiplied by the number of contexts.
- *fades*: on an ordered axis (size, tokens) its effect moves towards zero, after Holm's correction over the rows.
- *undecided* otherwise.

A row whose effect fades may still differ everywhere, so fading is said before transferring: the prediction interval
takes contexts as exchangeable, which on such an axis they are not.

- Holm 1979, "A simple sequentially rejective multiple test procedure"
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import chdtrc, stdtr

from ablate.statistics.comparison import ALPHA
from ablate.statistics.random_effects import AcrossContexts, across_contexts, left_over

TRANSFERS, FLIPS, FADES, UNDECIDED = "transfers", "flips", "fades", "undecided"
FEWEST_ON_AN_AXIS = 3  # contexts of different size, or tokens, for a slope


@dataclass(frozen=True)
class Slope:
    """How an effect changes per factor of e along an ordered axis, with its standard error and p; NaN where unknown.

    `is_towards_zero` compares it with the sign of the effect in the middle of the axis.
    """

    slope: float = math.nan
    error: float = math.nan
    p: float = math.nan
    is_towards_zero: bool = False


@dataclass(frozen=True)
class Dependence:
    """Whether an effect is another one at other levels of an axis: p by itself, and over all rows and axes."""

    p: float = math.nan
    p_adjusted: float = math.nan

    @property
    def is_found(self) -> bool:
        return self.p_adjusted <= ALPHA


@dataclass(frozen=True)
class RowAcross:
    """A row over all contexts: its effects together, its slopes on ordered axes, the axes that it depends on."""

    verdict: str
    together: AcrossContexts
    p_adjusted: float
    slopes: Mapping[str, Slope] = field(default_factory=dict)
    depends: Mapping[str, Dependence] = field(default_factory=dict)
    flips_between: tuple[int, int] | None = None  # the contexts, the one with the lower effect first


def transfer(
    effects: np.ndarray,
    errors: np.ndarray,
    p_adjusted: np.ndarray,
    degrees: np.ndarray,
    ordered: Mapping[str, np.ndarray] | None = None,
    levels: Mapping[str, Sequence[str | None]] | None = None,
) -> list[RowAcross]:
    """Judge each row by its `effects`, standard `errors` and p's (rows, contexts), NaN where a context tells nothing.

    `p_adjusted` are those of each context, corrected over its rows; `degrees` (contexts,) the degrees of freedom of
    its errors. `ordered` gives for an axis the logarithm of each context's place on it, NaN for contexts that differ
    from the others in more than that; `levels` for an axis without order the level of each context, None likewise.
    """
    ordered, levels = ordered or {}, levels or {}
    rows, contexts = effects.shape
    together = [across_contexts(*of) for of in zip(effects, errors, strict=True)]
    of_mean = holm(np.array([one.p for one in together]))
    slopes = {
        axis: [slope(*of, at, degrees) for of in zip(effects, errors, strict=True)] for axis, at in ordered.items()
    }
    of_slopes = {axis: holm(np.array([one.p for one in found])) for axis, found in slopes.items()}
    raw = {
        axis: [_dependence(*of, level) for of in zip(effects, errors, strict=True)] for axis, level in levels.items()
    }
    of_axes = holm(np.array([*raw.values()]).ravel()).reshape(len(raw), rows) if raw else np.empty((0, rows))
    judged = []
    for row in range(rows):
        flips = _flips(effects[row], p_adjusted[row] * contexts)
        fades = any(
            found[row].is_towards_zero and of_slopes[axis][row] * len(ordered) <= ALPHA
            for axis, found in slopes.items()
        )
        transfers = together[row].is_predicted_apart_from_zero and of_mean[row] <= ALPHA
        judged.append(
            RowAcross(
                FLIPS if flips else FADES if fades else TRANSFERS if transfers else UNDECIDED,
                together[row],
                float(of_mean[row]),
                {axis: found[row] for axis, found in slopes.items()},
                {axis: Dependence(raw[axis][row], float(of_axes[n, row])) for n, axis in enumerate(raw)},
                flips,
            )
        )
    return judged


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p (n,), NaN where p is, by Holm's step-down method over those that are known."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else []
    return adjusted


def _flips(effects: np.ndarray, p: np.ndarray) -> tuple[int, int] | None:
    found = np.flatnonzero(p <= ALPHA)
    if not len(found):
        return None
    low, high = found[np.argmin(effects[found])], found[np.argmax(effects[found])]
    return (int(low), int(high)) if effects[low] < 0 < effects[high] else None


def slope(effects: np.ndarray, errors: np.ndarray, at: np.ndarray, degrees: np.ndarray) -> Slope:
    """The weighted regression of `effects` on the place `at` (contexts,) on an axis; unknown below three places.

    Its error is that of the known errors, with the sum of their `degrees`, or larger by what they do not explain.
    """
    known = ~np.isnan(effects) & ~np.isnan(errors) & ~np.isnan(at)
    y, e, x = effects[known], errors[known], at[known]
    if len(np.unique(x)) < FEWEST_ON_AN_AXIS:
        return Slope()
    weights = 1 / e**2
    middle = float(weights @ x / weights.sum())
    mean = float(weights @ y / weights.sum())
    steepness = float(weights @ ((x - middle) * y) / (weights @ (x - middle) ** 2))
    beyond = left_over(y, weights, np.column_stack([np.ones_like(x), x])) / (len(x) - 2)
    error = math.sqrt(max(1.0, beyond) / float(weights @ (x - middle) ** 2))
    p = float(2 * stdtr(float(degrees[known].sum()), -abs(steepness) / error))
    return Slope(steepness, error, p, steepness * mean < 0)


def _dependence(effects: np.ndarray, errors: np.ndarray, levels: Sequence[str | None]) -> float:
    """The p of equal effects at all `levels` of an axis; NaN with fewer than two of them.

    The weighted sum of squares between levels, over what is left within them where that is more than the errors say.
    """
    known = np.array([level is not None for level in levels]) & ~np.isnan(effects) & ~np.isnan(errors)
    y, weights = effects[known], 1 / errors[known] ** 2
    there = [level for level, is_known in zip(levels, known, strict=True) if is_known]
    names = sorted({str(level) for level in there})
    if len(names) < 2:
        return math.nan
    by_level = np.array([[str(level) == name for name in names] for level in there], float)
    whole, within = left_over(y, weights, np.ones((len(y), 1))), left_over(y, weights, by_level)
    spare = len(y) - len(names)
    beyond = max(1.0, within / spare) if spare else 1.0
    return float(chdtrc(len(names) - 1, (whole - within) / beyond))
