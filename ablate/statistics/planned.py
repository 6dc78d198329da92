"""What a sweep will be able to show, before it runs."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtri, stdtrit

from ablate.statistics.comparison import ALPHA, FEWEST_SEEDS
from ablate.statistics.detectable import detectable_effect, detectable_effect_of_t
from ablate.statistics.errors import Control, DifferenceErrors, RowErrors
from ablate.statistics.row_variance import components
from ablate.statistics.simultaneous import Region


def planned_effect(
    noise: float, rows: int, seeds: int, baseline_seeds: int | None = None, alpha: float = ALPHA
) -> float:
    """The true difference that a sweep of `rows` beside the baseline finds with 80 % power; NaN below 3 seeds.

    `noise` is the sd of one run within a seed, the same in all rows; that of the effects of seeds is taken to be as
    large. It is what is detectable in a table as expected: the residual variances of its rows are the quantiles of
    their distribution, noise^2 chi2(d) / d, and the runs of its baseline vary by their expectation.
    """
    extra = max(0, (baseline_seeds or seeds) - seeds)
    if seeds < FEWEST_SEEDS or rows < 1 or np.isnan(noise):
        return np.nan
    if noise == 0:
        return 0.0
    d = seeds - 1
    if rows == 1:
        error = noise * np.sqrt(2 / seeds)
        return detectable_effect_of_t(error, d, error * float(stdtrit(d, 1 - alpha / 2)))
    quantiles = (np.arange(rows) + 0.5) / rows
    v, degrees = noise**2 * chdtri(d, quantiles) / d, np.full(rows, d)
    model = components(v, degrees)
    # As many deviations from the shared mean as there are extra seeds, their squares as expected: see `Control`.
    deviations = np.full(extra, noise * np.sqrt(2 * (1 + extra / seeds)))
    baseline = Control(noise**2, d, deviations, noise**2, d, share=1.0)
    row_errors = RowErrors(model, v, degrees, np.full(rows, seeds))
    errors = DifferenceErrors(model, row_errors, np.zeros(rows, int), [baseline], np.array([seeds]))
    region = Region.of(errors, np.zeros(rows), alpha)
    return float(detectable_effect(errors, region.critical(np.ones(rows, bool)) * region.w)[0])
