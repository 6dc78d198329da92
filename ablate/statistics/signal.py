"""How well a measure tells rows apart: how far apart the rows are, in units of the noise of one run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.statistics.residuals import residuals

ROUNDING = 1e-9  # of the largest value: a standard deviation that is smaller is a matter of rounding
FEWEST_ROWS = 3  # with fewer, a standard deviation over rows says nothing


@dataclass(frozen=True)
class Signal:
    """Standard deviations in the unit of the measure, NaN where unknown.

    `spread` is that of the true means of the `rows`: of the measured means, with the variance taken out that seeds and
    items alone give them. `seed_noise` is that of one run within a row and a seed, `item_noise` what the choice of the
    items adds to a row, however many seeds it has.
    """

    rows: int
    spread: float = np.nan
    seed_noise: float = np.nan
    item_noise: float = np.nan

    @property
    def run_noise(self) -> float:
        """Of one run: from its seed and, as far as known, from the items."""
        return float(np.hypot(self.seed_noise, np.nan_to_num(self.item_noise)))

    @property
    def ratio(self) -> float:
        """Signal to noise; NaN where either is unknown, or there is no noise."""
        return self.spread / self.run_noise if self.run_noise > 0 else np.nan


def signal_of(values: np.ndarray, item_noise: float = np.nan, kept_out: np.ndarray | None = None) -> Signal:
    """The signal of `values` (rows, seeds), NaN where a run is missing; the baseline's are first.

    The mean of a row is its difference to the baseline over the seeds that both have, and the baseline's own is 0: so
    the effects of the seeds cancel. The noise of the baseline shifts all others together, and its variance over rows
    is that of any other row. With v the variance of one run, n[r] the seeds behind the mean of row r, and i the
    `item_noise`,

        spread^2 = variance over rows of the means - mean over rows of v / n[r] - i^2,  at least 0.

    Rows `kept_out` (rows,) repeat another one and do not count.
    """
    values = np.asarray(values, dtype=float)
    kept_out = np.zeros(len(values), bool) if kept_out is None else np.asarray(kept_out, dtype=bool)
    shared = ~np.isnan(values) & ~np.isnan(values[0]) & ~kept_out[:, None]
    seeds = shared.sum(1)
    seeds[0] = seeds[1:].max(initial=0)
    counted = seeds > 0
    rows = int(counted.sum())
    least = ROUNDING * float(np.abs(values[~np.isnan(values)]).max(initial=0.0))
    noise = _run_variance(values, kept_out)
    seed_noise = _beyond(float(np.sqrt(noise)), least)
    if rows < FEWEST_ROWS:
        return Signal(rows, seed_noise=seed_noise, item_noise=item_noise)
    sums = np.where(shared, values - np.where(np.isnan(values[0]), 0.0, values[0]), 0.0).sum(1)
    means = sums[counted] / seeds[counted]
    by_chance = noise * np.mean(1 / seeds[counted]) + np.nan_to_num(item_noise) ** 2
    spread = np.sqrt(max(0.0, float(means.var(ddof=1) - by_chance))) if np.isfinite(by_chance) else np.nan
    return Signal(rows, _beyond(float(spread), least), seed_noise, item_noise)


def _beyond(deviation: float, least: float) -> float:
    return 0.0 if deviation <= least else deviation


def _run_variance(values: np.ndarray, kept_out: np.ndarray) -> float:
    """The variance of one run within a row and a seed, the mean over rows by their degrees of freedom; NaN if unknown.

    A single row has no others to tell the effects of its seeds from its noise, so those are in it.
    """
    found = residuals(values, kept_out)
    known = (found.degrees > 0) & ~kept_out & np.isfinite(found.variance)
    if not known.any():
        alone = values[0][~np.isnan(values[0])]
        return float(alone.var(ddof=1)) if len(alone) > 1 else np.nan
    return float(np.average(found.variance[known], weights=found.degrees[known]))
