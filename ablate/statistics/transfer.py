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
from scipy.special import fdtrc, stdtr

from ablate.statistics.comparison import ALPHA
from ablate.statistics.random_effects import AcrossContexts, across_contexts, between_variance, left_over

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

    `p_adjusted` are those of each context, corrected over its rows, `degrees` (rows, contexts) the degrees of freedom
    of `errors`. `ordered` gives for an axis the logarithm of each context's place on it, NaN for contexts that differ
    from the others in more than that; `levels` for an axis without order the level of each context, None likewise.
    """
    ordered, levels = ordered or {}, levels or {}
    rows, contexts = effects.shape
    together = [across_contexts(*of) for of in zip(effects, errors, strict=True)]
    of_mean = holm(np.array([one.p for one in together]))
    found = {axis: slopes(effects, errors, at) for axis, at in ordered.items()}
    of_slopes = {axis: holm(np.array([one.p for one in of_axis])) for axis, of_axis in found.items()}
    raw = {axis: _dependences(effects, errors, degrees, level) for axis, level in levels.items()}
    of_axes = holm(np.array([*raw.values()]).ravel()).reshape(len(raw), rows) if raw else np.empty((0, rows))
    judged = []
    for row in range(rows):
        flips = _flips(effects[row], p_adjusted[row] * contexts)
        fades = any(
            of_axis[row].is_towards_zero and of_slopes[axis][row] * len(ordered) <= ALPHA
            for axis, of_axis in found.items()
        )
        transfers = together[row].is_predicted_apart_from_zero and of_mean[row] <= ALPHA
        judged.append(
            RowAcross(
                FLIPS if flips else FADES if fades else TRANSFERS if transfers else UNDECIDED,
                together[row],
                float(of_mean[row]),
                {axis: of_axis[row] for axis, of_axis in found.items()},
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


def slopes(effects: np.ndarray, errors: np.ndarray, at: np.ndarray) -> list[Slope]:
    """Each row's weighted regression of its effects (rows, contexts) on the place `at` (contexts,) on an axis.

    Beyond the line and the known `errors`, the effects of all rows vary by one tau^2: from three sizes, what a single
    row does beside its line cannot be told from a slope. Unknown where a row has fewer than three places.
    """
    there = ~np.isnan(at)
    design = np.column_stack([np.ones(there.sum()), at[there]])
    tau2, degrees = between_variance(effects[:, there], errors[:, there], design)
    return [_slope(y[there], e[there], at[there], tau2, degrees) for y, e in zip(effects, errors, strict=True)]


def _slope(y: np.ndarray, e: np.ndarray, x: np.ndarray, tau2: float, degrees: int) -> Slope:
    known = ~np.isnan(y) & ~np.isnan(e)
    y, x, weights = y[known], x[known], 1 / (e[known] ** 2 + tau2)
    if len(np.unique(x)) < FEWEST_ON_AN_AXIS:
        return Slope()
    middle, mean = float(weights @ x / weights.sum()), float(weights @ y / weights.sum())
    steepness = float(weights @ ((x - middle) * y) / (weights @ (x - middle) ** 2))
    error = 1 / math.sqrt(float(weights @ (x - middle) ** 2))
    return Slope(steepness, error, float(2 * stdtr(degrees, -abs(steepness) / error)), steepness * mean < 0)


def _dependences(
    effects: np.ndarray, errors: np.ndarray, degrees: np.ndarray, levels: Sequence[str | None]
) -> list[float]:
    """For each row the p of equal effects at all `levels` (contexts,) of an axis; NaN with fewer than two of them.

    It is an F test of the weighted sum of squares between levels, where within levels the effects of all rows vary by
    one tau^2. Where no level has two contexts, what differs between them is the axis alone, and the errors decide.
    """
    there = np.array([level is not None for level in levels])
    names = [*dict.fromkeys(level for level in levels if level is not None)]
    design = np.array([[level == name for name in names] for level in levels if level is not None], float)
    if len(names) < 2:
        return [math.nan] * len(effects)
    tau2, spare = between_variance(effects[:, there], errors[:, there], design)
    found = []
    for y, e, of_errors in zip(effects[:, there], errors[:, there], degrees[:, there], strict=True):
        known = ~np.isnan(y) & ~np.isnan(e)
        freedom = spare if spare else float(of_errors[known].sum())
        found.append(_dependence(y[known], 1 / (e[known] ** 2 + tau2), design[known], freedom))
    return found


def _dependence(y: np.ndarray, weights: np.ndarray, by_level: np.ndarray, degrees: float) -> float:
    by_level = by_level[:, by_level.any(0)]
    between = by_level.shape[1] - 1
    if between < 1 or degrees < 1:
        return math.nan
    whole, within = left_over(y, weights, np.ones((len(y), 1))), left_over(y, weights, by_level)
    return float(fdtrc(between, degrees, max(0.0, whole - within) / between))
