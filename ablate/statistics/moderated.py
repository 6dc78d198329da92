"""Which differences from the baseline are more than seed noise, told from three to five seeds a row.

The test is two-way, moderated and guarded. Every row runs the same seeds on the same batches, so a seed's effect is
common to all rows and is taken out first (the median over the other rows); each row's remaining variance is shrunk
towards the common one (empirical Bayes, Smyth 2004) but never below its own; differences of means then get a t test,
Holm's correction within a section, and an interval.

Loss tables are arrays of shape (rows, seeds), NaN where a run is missing, the baseline in row 0; lower is better.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, digamma, ndtr, polygamma, stdtr, stdtrit

ALPHA = 0.05
POWER = 0.8
FEWEST_SEEDS = 3
_GRID = (np.arange(2000) + 0.5) / 2000


@dataclass(frozen=True)
class Comparison:
    """One row against the baseline: `delta` = row minus baseline in the unit of the losses, NaN where it cannot be
    known.

    `error` is the standard error of `delta`, `own_error` the row's part in it, the baseline's being the same for all.
    `seeds` is the number of seeds shared with the baseline, `threshold` the level at which Holm's procedure judged
    this row, `low` and `high` the t interval at that level: it excludes zero exactly when the row `differs`.
    `is_paired` where the test was the paired t test over shared seeds, as for a table of a single row.
    """

    seeds: int
    delta: float = np.nan
    error: float = np.nan
    own_error: float = np.nan
    degrees: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    p_adjusted: float = np.nan
    threshold: float = np.nan
    differs: bool = False
    is_paired: bool = False

    @property
    def detectable(self) -> float:
        """The true difference that this row's design finds with 80 % power at the level at which it was judged."""
        return detectable_effect(self.error, self.degrees, self.threshold)


@dataclass(frozen=True)
class Noise:
    """What is left of a loss table without row and seed effects.

    `variance` (rows,) of one run's noise, NaN where a row has fewer than two usable seeds; `degrees` (rows,) behind
    each, shrinkage included; `pooled` the degrees of freedom of all residuals together; `seed_variance` the variance
    of the seed effects.
    """

    variance: np.ndarray
    degrees: np.ndarray
    pooled: float
    seed_variance: float

    @property
    def is_of_a_pair(self) -> bool:
        """Whether there is a single row beside the baseline: nothing to borrow from, the paired t test is exact."""
        return bool(np.isfinite(self.variance).sum() <= 2)


def compare(losses: np.ndarray, sections: list[str], alpha: float = ALPHA) -> list[Comparison]:
    """Compare rows 1… of `losses` (rows, seeds) with row 0; `sections` names the section of each row 1… (a family for
    Holm).

    A row is judged on the seeds that it shares with the baseline; the baseline's other seeds sharpen the baseline's
    mean as far as the variance between seeds allows. Fewer than 3 shared seeds: only the mean difference, no test.
    """
    losses = np.asarray(losses, dtype=float)
    if len(sections) != len(losses) - 1:
        raise ValueError(f"{len(losses) - 1} rows but {len(sections)} sections")
    noise = estimate_noise(losses)
    differences = [_difference(losses[0], row, noise, index) for index, row in enumerate(losses[1:], start=1)]
    result: list[Comparison] = [Comparison(seeds=d[0], delta=d[1]) for d in differences]
    for section in dict.fromkeys(sections):
        family = [i for i, name in enumerate(sections) if name == section and differences[i][0] >= FEWEST_SEEDS]
        if not family:
            continue
        p = np.array([_two_sided(*differences[i][1:4]) for i in family])
        adjusted, thresholds = holm(p, alpha)
        for i, p_i, adjusted_i, threshold in zip(family, p, adjusted, thresholds, strict=True):
            seeds, delta, error, degrees, own_error = differences[i]
            reach = error * float(stdtrit(degrees, 1 - threshold / 2))
            result[i] = Comparison(
                seeds=seeds,
                delta=delta,
                error=error,
                own_error=own_error,
                degrees=degrees,
                low=delta - reach,
                high=delta + reach,
                p=float(p_i),
                p_adjusted=float(adjusted_i),
                threshold=float(threshold),
                differs=bool(adjusted_i <= alpha),
                is_paired=noise.is_of_a_pair,
            )
    return result


def estimate_noise(losses: np.ndarray) -> Noise:
    """Variance of one run in each row of `losses` (rows, seeds): residuals of the two-way table, moderated, guarded."""
    rows = len(losses)
    present = ~np.isnan(losses)
    for _ in range(2):  # a seed that one row alone ran says nothing of its effect, nor does a row with one such seed
        present &= present.sum(0) >= 2
        present &= (present.sum(1) >= 2)[:, None]
    present &= present.sum(0) >= 2
    nothing = Noise(np.full(rows, np.nan), np.full(rows, np.nan), 0.0, np.nan)
    if present.sum() == 0:
        return nothing
    values = np.where(present, losses, np.nan)
    used = present.any(0)
    effects, residuals = _seed_effects(values[:, used])
    runs = present.sum(1)
    own_degrees = np.where(runs >= 2, runs - 1, 0)
    pooled = float(own_degrees.sum() - (used.sum() - 1))
    usable = own_degrees > 0
    if pooled <= 0 or usable.sum() < 2:
        return nothing
    # A residual has the noise of the median in it, too: twice the variance with one other row, 1.13 times with twelve.
    gained = np.where(present, 1 + _variance_of_median(present.sum(0) - 1), 0.0).sum(1)
    own = np.full(rows, np.nan)
    own[usable] = np.nansum(residuals[usable] ** 2, axis=1) * runs[usable] / (gained[usable] * own_degrees[usable])
    seed_variance = float(np.var(effects, ddof=1)) if used.sum() > 1 else np.nan
    prior_degrees, prior = (
        (np.inf, float(np.mean(own[usable]))) if usable.sum() == 2 else _prior(own[usable], own_degrees[usable])
    )
    if np.isinf(prior_degrees):
        moderated = np.full(rows, prior)
    else:
        moderated = (prior_degrees * prior + own_degrees * own) / (prior_degrees + own_degrees)
    variance = np.where(usable, np.fmax(moderated, own), np.nan)
    return Noise(
        variance, np.where(usable, np.minimum(prior_degrees + own_degrees, pooled), np.nan), pooled, seed_variance
    )


def holm(p: np.ndarray, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Holm's adjusted p, and the level at which each p was judged: alpha / (those not rejected before it).

    Written out, because statsmodels' `multipletests` collects all garbage at each call; the tests hold it to that.
    """
    order = np.argsort(p, kind="stable")
    left = len(p) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * left))
    turn = np.empty(len(p), dtype=int)
    turn[order] = np.arange(len(p))
    return adjusted, alpha / (len(p) - np.minimum(turn, (adjusted <= alpha).sum()))


def detectable_effect(error: float, degrees: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The true difference that a t test at level `alpha`, two-sided, finds with chance `power`; `error` is its sd."""
    if not error > 0 or np.isnan(degrees + alpha):
        return 0.0 if error == 0 else np.nan
    critical = float(stdtrit(degrees, 1 - alpha / 2))
    # The noncentral t as a normal over a grid of the estimated sd: exact enough, and finite at every number of degrees.
    spread = np.sqrt(chdtri(degrees, _GRID) / degrees)

    def excess(size: float) -> float:
        return float(np.mean(ndtr(size - critical * spread) + ndtr(-size - critical * spread))) - power

    return error * brentq(excess, 0.0, 4 * critical * float(spread.max()) + 10)


def planned_effect(
    noise: float, rows: int, seeds: int, baseline_seeds: int | None = None, alpha: float = ALPHA
) -> float:
    """What a sweep could detect, before it runs: `noise` is one run's sd within a seed, `rows` the rows of its
    largest section.

    The level is alpha / rows (Holm's first step). Extra baseline seeds count as if their seed effect were known: an
    optimistic bound. NaN below 3 seeds, where there is no verdict.
    """
    baseline_seeds = seeds if baseline_seeds is None else baseline_seeds
    if min(seeds, baseline_seeds) < FEWEST_SEEDS or rows < 1:
        return np.nan
    error = noise * np.sqrt(1 / seeds + 1 / max(seeds, baseline_seeds))
    return detectable_effect(error, rows * (seeds - 1), alpha / rows)


def noise_floor(baseline: np.ndarray) -> float:
    """The sd over all of the baseline's seeds, in the unit of the losses; NaN for fewer than two."""
    values = baseline[~np.isnan(baseline)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _difference(
    baseline: np.ndarray, row: np.ndarray, noise: Noise, index: int
) -> tuple[int, float, float, float, float]:
    """(shared seeds, difference of means, its standard error, degrees of freedom, the row's part in that error)."""
    both = ~np.isnan(baseline) & ~np.isnan(row)
    seeds = int(both.sum())
    if seeds == 0:
        return 0, np.nan, np.nan, np.nan, np.nan
    paired = row[both] - baseline[both]
    row_mean, base_mean = float(row[both].mean()), float(baseline[both].mean())
    if seeds < FEWEST_SEEDS:
        return seeds, row_mean - base_mean, np.nan, np.nan, np.nan
    if noise.is_of_a_pair:
        error = float(paired.std(ddof=1)) / np.sqrt(seeds)
        return seeds, row_mean - base_mean, error, float(seeds - 1), error / np.sqrt(2)
    from_row, from_base = noise.variance[index] / seeds, noise.variance[0] / seeds
    extra = baseline[~both & ~np.isnan(baseline)]
    if len(extra):
        # Seeds that only the baseline ran carry the unknown effects of those seeds as well as the baseline's noise.
        of_extra = (noise.variance[0] + noise.seed_variance) / len(extra) + noise.seed_variance / seeds
        weight = (1 / of_extra) / (1 / of_extra + 1 / from_base) if from_base > 0 else 0.0
        base_mean = (1 - weight) * base_mean + weight * float(extra.mean())
        from_base = (1 - weight) * from_base
    total = from_row + from_base
    if total == 0:
        return seeds, row_mean - base_mean, 0.0, noise.pooled, 0.0
    degrees = total**2 / (from_row**2 / noise.degrees[index] + from_base**2 / noise.degrees[0])
    own = float(np.sqrt(from_row))
    return seeds, row_mean - base_mean, float(np.sqrt(total)), float(min(degrees, noise.pooled)), own


def _seed_effects(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seed effects (seeds,), mean zero, and residuals (rows, seeds); medians over rows, so that one wild row moves
    nothing.

    A residual is taken from the median of the *other* rows: its own row, in it, would follow the noise that is to be
    measured. With every run present one pass is exact; with holes the row means are taken again without the seed
    effects, until they stand.
    """
    effects = np.zeros(values.shape[1])
    some = ~np.isnan(values).all(1)
    known = values[some]
    has_holes = np.isnan(known).any()
    median = np.nanmedian if has_holes else np.median
    for _ in range(50 if has_holes else 1):
        centred = known - np.nanmean(known - effects, axis=1, keepdims=True)
        before, effects = effects, median(centred, axis=0)
        effects -= effects.mean()
        if np.abs(effects - before).max() <= 1e-12 * (1 + np.abs(effects).max()):
            break
    count = len(known)
    others = np.array([[other for other in range(count) if other != row] for row in range(count)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a run that is missing has no residual
        left = centred - median(centred[others], axis=1)
    residuals = np.full_like(values, np.nan)
    residuals[some] = left - np.nanmean(left, axis=1, keepdims=True)
    return effects, residuals


def _variance_of_median(rows: np.ndarray) -> np.ndarray:
    """Variance of the median of `rows` standard normal values, within 2 %."""
    return np.where(rows > 1, np.pi / 2 / (rows + np.where(rows % 2, 0.5, 1.25)), 1.0)


def _prior(variances: np.ndarray, degrees: np.ndarray) -> tuple[float, float]:
    """Degrees of freedom and scale of the common variance: moments of the log variances (Smyth 2004, section 6.2)."""
    middle = float(np.median(variances))
    if middle == 0:
        return np.inf, float(np.mean(variances))
    logs = np.log(np.maximum(variances, 1e-5 * middle)) - digamma(degrees / 2) + np.log(degrees / 2)
    centre = float(logs.mean())
    spread = float(np.sum((logs - centre) ** 2) / (len(logs) - 1) - np.mean(polygamma(1, degrees / 2)))
    if spread <= 0:
        return np.inf, float(np.exp(centre))
    prior = 2 * _inverse_trigamma(spread)
    return prior, float(np.exp(centre + digamma(prior / 2) - np.log(prior / 2)))


def _inverse_trigamma(value: float) -> float:
    """The y whose trigamma is `value` (Newton's method on 1/trigamma, which is convex)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if abs(step) < 1e-9 * y:
            break
    return y


def _two_sided(delta: float, error: float, degrees: float) -> float:
    """The p of a t test; without any noise whatever differs differs."""
    if error == 0:
        return 0.0 if delta else 1.0
    return 2 * float(stdtr(min(degrees, 1e9), -abs(delta / error)))
