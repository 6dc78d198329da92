"""Rows of which one seed lies apart: their runs end in one of two states, or are noisier than those of other rows.

Small models often learn something early in some runs and late in others. Three to five losses in two clusters then
look like a single noisy row, and no test has power; what helps is to say so. The statistic of a row is the largest gap
between neighbouring residuals, in units of the noise common to the rows.
"""

from __future__ import annotations

import numpy as np

from ablate.statistics.residuals import residuals
from ablate.statistics.row_variance import common_scale

# Gaps of rows of normal noise exceed (limit + excess / rows) with probability .025 to .05, by the number of runs: what
# simulations of 5 to 51 rows gave.
_THRESHOLDS = {3: (2.52, 3.6), 4: (2.32, 2.0), 5: (2.15, 1.2), 6: (2.0, 1.1), 7: (1.94, 0.8), 8: (1.88, 0.5)}


def one_seed_lies_apart(losses: np.ndarray, kept_out: np.ndarray | None = None) -> np.ndarray:
    """(rows,) of `losses` (rows, seeds): whether the runs of a row, at least 3, fall into two clusters.

    With three values, a row in two states and a noisy row are one thing; neither is told from the other.
    """
    noise = residuals(np.asarray(losses, dtype=float), kept_out)
    runs = (~np.isnan(noise.values)).sum(1)
    counted = (runs >= 3) if kept_out is None else (runs >= 3) & ~np.asarray(kept_out, dtype=bool)
    counted[0] = False  # the baseline is measured by the rows, not they by it
    apart = np.zeros(len(runs), bool)
    if counted.sum() < 2 or not noise.variance[counted].any():
        return apart
    s = np.sqrt(common_scale(noise.variance[counted], noise.degrees[counted]))
    for row in np.flatnonzero(runs >= 3):
        values = np.sort(noise.values[row][~np.isnan(noise.values[row])])
        limit, excess = _THRESHOLDS[min(int(runs[row]), max(_THRESHOLDS))]
        apart[row] = np.diff(values).max() / s > limit + excess / counted.sum()
    return apart
