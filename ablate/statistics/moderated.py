"""Which differences from the baseline exceed seed noise, judged from three to five seeds per row.

The test is two-way, moderated and guarded. Every row trains with the same seeds on the same batches, so the effect of
a seed is common to all rows and is removed first (the median over the other rows). The remaining variance of each row
is then moderated: shrunk towards the common variance (empirical Bayes; Smyth 2004, "Linear models and empirical Bayes
methods for assessing differential expression in microarray experiments"). It is guarded, that is, never smaller than
the row's own. Differences of means get a t test, Holm's correction within a section (Holm 1979), and an interval.

Loss tables have shape (rows, seeds), NaN where a run is missing, the baseline in row 0; lower is better.
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
    """One row against the baseline: `delta` is row minus baseline in the unit of the losses, NaN where unknown.

    `error` is the standard error of `delta`, `own_error` the row's part in it (the baseline's is the same for all).
    `seeds` is the number of seeds shared with the baseline, `threshold` the level at which Holm's procedure tested
    this row, `low` and `high` the t interval at that level: it excludes zero exactly when the row `differs`.
    `is_paired` marks the paired t test over shared seeds, used for a table with a single row beside the baseline.
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
        """The true difference that this row's design detects with 80 % power at the level of its test."""
        return detectable_effect(self.error, self.degrees, self.threshold)


@dataclass(frozen=True)
class Noise:
    """The noise in a loss table once row and seed effects are removed.

    `variance` (rows,) is that of one run, NaN where a row has fewer than two usable seeds; `degrees` (rows,) are the
    degrees of freedom of each, shrinkage included; `pooled` those of all residuals together; `seed_variance` is the
    variance of the seed effects.
    """

    variance: np.ndarray
    degrees: np.ndarray
    pooled: float
    seed_variance: float

    @property
    def is_of_a_pair(self) -> bool:
        """Whether only one row is compared: there is no other row to borrow from, and the paired t test is exact."""
        return bool(np.isfinite(self.variance).sum() <= 2)


def compare(losses: np.ndarray, sections: list[str], alpha: float = ALPHA) -> list[Comparison]:
    """Compare rows 1… of `losses` (rows, seeds) with row 0; `sections` (rows - 1) names the Holm family of each.

    A row is tested on the seeds that it shares with the baseline; further seeds of the baseline make the baseline's
    mean more precise, as far as the variance between seeds allows. With fewer than 3 shared seeds there is only the
    mean difference, no test. Raises `ValueError` where the sections do not match the rows.
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
    """Variance of one run in each row of `losses` (rows, seeds), moderated and guarded.

    The model is loss[r, s] = row[r] + seed[s] + noise[r, s], with noise of variance v[r]. Of the residuals e[r, s] of
    that model, row r's own estimate is u[r] = sum_s e[r, s]^2 / d[r] with d[r] = runs[r] - 1, corrected for the noise
    in the seed effects. With the prior v0 on d0 degrees of freedom (`_prior`), the moderated variance is Smyth's
    posterior mean (d0 v0 + d[r] u[r]) / (d0 + d[r]); the guard replaces it by u[r] where that is larger.
    """
    rows = len(losses)
    present = ~np.isnan(losses)
    # A seed that only one row ran does not show its effect, and a row with one usable seed does not show its noise.
    # Dropping one may disqualify the other, so it is repeated.
    for _ in range(2):
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
    own_degrees = np.where(runs >= 2, runs - 1, 0)  # (rows,)
    # All residuals together: runs - rows - (seeds - 1), since the seed effects sum to zero.
    pooled = float(own_degrees.sum() - (used.sum() - 1))
    usable = own_degrees > 0
    if pooled <= 0 or usable.sum() < 2:
        return nothing
    # A residual also contains the noise of the median over the other rows: its variance is 1 + var(median) times that
    # of one run, 2 times with one other row and 1.13 times with twelve. `gained` (rows,) sums that over a row's runs.
    gained = np.where(present, 1 + _variance_of_median(present.sum(0) - 1), 0.0).sum(1)
    own = np.full(rows, np.nan)
    # u[r] = sum_s e^2 / (mean gain * d[r])
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
    # Shrinkage adds the prior's degrees of freedom, but no more than all rows have together.
    return Noise(
        variance, np.where(usable, np.minimum(prior_degrees + own_degrees, pooled), np.nan), pooled, seed_variance
    )


def holm(p: np.ndarray, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Holm's adjusted p values and the level at which each p was tested, both (tests,) (Holm 1979).

    With p sorted in ascending order, the i-th (from 0) of m is multiplied by m - i, made monotone and capped at 1; it
    is tested at alpha / (m - i), and every p after the first that is not rejected at the level of that one.

    Written out because statsmodels' `multipletests` runs the garbage collector at each call; the tests compare both.
    """
    order = np.argsort(p, kind="stable")
    left = len(p) - np.arange(len(p))  # hypotheses not yet rejected at each step
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * left))
    turn = np.empty(len(p), dtype=int)
    turn[order] = np.arange(len(p))
    return adjusted, alpha / (len(p) - np.minimum(turn, (adjusted <= alpha).sum()))


def detectable_effect(error: float, degrees: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The true difference that a two-sided t test at level `alpha` detects with probability `power`.

    `error` is the standard error of the difference. The answer is error * x with P(|T| > critical) = power, where T is
    noncentral t with noncentrality x and `degrees` degrees of freedom.
    """
    if not error > 0 or np.isnan(degrees + alpha):
        return 0.0 if error == 0 else np.nan
    critical = float(stdtrit(degrees, 1 - alpha / 2))
    # T = (x + z) / s, with z standard normal and s^2 chi-squared / degrees. Averaging the normal probability over 2000
    # quantiles of s is accurate to 2e-4, and stays finite where the noncentral t of scipy does not.
    spread = np.sqrt(chdtri(degrees, _GRID) / degrees)

    def excess(size: float) -> float:
        return float(np.mean(ndtr(size - critical * spread) + ndtr(-size - critical * spread))) - power

    return error * float(brentq(excess, 0.0, 4 * critical * float(spread.max()) + 10))


def planned_effect(
    noise: float, rows: int, seeds: int, baseline_seeds: int | None = None, alpha: float = ALPHA
) -> float:
    """The difference that a sweep could detect, before it runs.

    `noise` is the sd of one run within a seed, `rows` the number of rows in the largest section. The level is
    alpha / rows (Holm's first step), the error noise * sqrt(1 / seeds + 1 / baseline_seeds), and the degrees of freedom
    rows * (seeds - 1). Extra baseline seeds count as if their seed effects were known: an optimistic bound. NaN below 3
    seeds, where there is no verdict.
    """
    baseline_seeds = seeds if baseline_seeds is None else baseline_seeds
    if min(seeds, baseline_seeds) < FEWEST_SEEDS or rows < 1:
        return np.nan
    error = noise * np.sqrt(1 / seeds + 1 / max(seeds, baseline_seeds))
    return detectable_effect(error, rows * (seeds - 1), alpha / rows)


def noise_floor(baseline: np.ndarray) -> float:
    """The sd of `baseline` (seeds,) over its seeds, in the unit of the losses; NaN for fewer than two."""
    values = baseline[~np.isnan(baseline)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _difference(
    baseline: np.ndarray, row: np.ndarray, noise: Noise, index: int
) -> tuple[int, float, float, float, float]:
    """(shared seeds, difference of means, its standard error, degrees of freedom, the row's part in that error).

    `baseline` and `row` (seeds,). Seed effects cancel in the difference over n shared seeds, so that its variance is
    v[row] / n + v[baseline] / n; degrees of freedom after Satterthwaite 1946 (the unequal-variance, or Welch, test).
    """
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
        # The m seeds that only the baseline ran give a second estimate of its mean. Their own seed effects and those of
        # the n shared seeds do not cancel in it: its variance is (v0 + seed_variance) / m + seed_variance / n. The two
        # estimates are weighted by inverse variance.
        of_extra = (noise.variance[0] + noise.seed_variance) / len(extra) + noise.seed_variance / seeds
        weight = (1 / of_extra) / (1 / of_extra + 1 / from_base) if from_base > 0 else 0.0
        base_mean = (1 - weight) * base_mean + weight * float(extra.mean())
        from_base = (1 - weight) * from_base
    total = from_row + from_base
    if total == 0:
        return seeds, row_mean - base_mean, 0.0, noise.pooled, 0.0
    # Satterthwaite: (a + b)^2 / (a^2 / degrees_a + b^2 / degrees_b), at most the degrees of the whole table
    degrees = total**2 / (from_row**2 / noise.degrees[index] + from_base**2 / noise.degrees[0])
    own = float(np.sqrt(from_row))
    return seeds, row_mean - base_mean, float(np.sqrt(total)), float(min(degrees, noise.pooled)), own


def _seed_effects(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seed effects (seeds,) with mean zero, and residuals (rows, seeds) of the two-way table `values` (rows, seeds).

    The effect of a seed is the median over rows of the losses centred by row, so that an outlying row has no influence
    (compare Tukey's median polish). A residual is taken from the median of the *other* rows: with its own row in it,
    the median would follow the noise that is to be measured. If every run is present, one pass is exact; with missing
    runs the row means are recomputed without the seed effects until they converge.
    """
    effects = np.zeros(values.shape[1])
    some = ~np.isnan(values).all(1)
    known = values[some]
    has_holes = np.isnan(known).any()
    median = np.nanmedian if has_holes else np.median
    for _ in range(50 if has_holes else 1):
        # (rows, seeds) minus row means (rows, 1), the means corrected for the seeds that each row happens to have
        centred = known - np.nanmean(known - effects, axis=1, keepdims=True)
        before, effects = effects, median(centred, axis=0)
        effects -= effects.mean()
        if np.abs(effects - before).max() <= 1e-12 * (1 + np.abs(effects).max()):
            break
    count = len(known)
    # (rows, rows - 1): indices of the other rows, so that centred[others] is (rows, rows - 1, seeds)
    others = np.array([[other for other in range(count) if other != row] for row in range(count)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a run that is missing has no residual
        left = centred - median(centred[others], axis=1)
    residuals = np.full_like(values, np.nan)
    # The median effects of a row's seeds need not have mean zero; the row mean takes that out again.
    residuals[some] = left - np.nanmean(left, axis=1, keepdims=True)
    return effects, residuals


def _variance_of_median(rows: np.ndarray) -> np.ndarray:
    """Variance of the median of `rows` standard normal values: pi / (2 rows), corrected to within 2 % for few rows."""
    return np.where(rows > 1, np.pi / 2 / (rows + np.where(rows % 2, 0.5, 1.25)), 1.0)


def _prior(variances: np.ndarray, degrees: np.ndarray) -> tuple[float, float]:
    """Degrees of freedom d0 and scale v0 of the prior of the row variances (Smyth 2004, section 6.2).

    `variances` u and their `degrees` d (rows,). If u / v0 is F distributed with d and d0 degrees of freedom, then
    z = log u - digamma(d / 2) + log(d / 2) has
        mean      log v0 - digamma(d0 / 2) + log(d0 / 2)
        variance  trigamma(d / 2) + trigamma(d0 / 2)
    Equating both to their sample values gives d0, then v0; d0 is infinite where z varies no more than chance explains.
    """
    middle = float(np.median(variances))
    if middle == 0:
        return np.inf, float(np.mean(variances))
    # Variances are bounded below, since the logarithm of an accidental zero would dominate both moments.
    logs = np.log(np.maximum(variances, 1e-5 * middle)) - digamma(degrees / 2) + np.log(degrees / 2)
    centre = float(logs.mean())
    spread = float(np.sum((logs - centre) ** 2) / (len(logs) - 1) - np.mean(polygamma(1, degrees / 2)))
    if spread <= 0:
        return np.inf, float(np.exp(centre))
    prior = 2 * _inverse_trigamma(spread)
    return prior, float(np.exp(centre + digamma(prior / 2) - np.log(prior / 2)))


def _inverse_trigamma(value: float) -> float:
    """The y whose trigamma is `value` (Newton's method on 1 / trigamma, which is convex; Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if abs(step) < 1e-9 * y:
            break
    return y


def _two_sided(delta: float, error: float, degrees: float) -> float:
    """The two-sided p of a t test; without noise, 0 for any difference and 1 for none."""
    if error == 0:
        return 0.0 if delta else 1.0
    return 2 * float(stdtr(min(degrees, 1e9), -abs(delta / error)))
