"""How noisy one run is."""

from __future__ import annotations

import numpy as np

from ablate.statistics.residuals import residuals
from ablate.statistics.row_variance import components


def noise_floor(baseline: np.ndarray) -> float:
    """The sd of `baseline` (seeds,) over its seeds, in the unit of the losses; NaN for fewer than two."""
    values = baseline[~np.isnan(baseline)]
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def typical_noise(losses: np.ndarray) -> float:
    """The sd of one run within a seed in an ordinary row of `losses` (rows, seeds); NaN where it cannot be known."""
    found = residuals(np.asarray(losses, dtype=float))
    known = found.degrees > 0
    if known.sum() < 2:
        return np.nan
    if not found.variance[known].any():
        return 0.0
    return float(np.sqrt(components(found.variance[known], found.degrees[known]).typical_variance))
