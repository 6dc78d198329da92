"""What a mean score over seeds is known to within, by seeds and items together."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from ablate.statistics.item_noise import ItemNoise

LEVEL = 0.95
_NORMAL = 1e9  # degrees of freedom with which t is as good as normal


def mean_interval(values: np.ndarray, items: ItemNoise | None, level: float = LEVEL) -> tuple[float, float]:
    """An interval of the mean of `values` (seeds,), NaN where a run is missing; NaN if nothing is known of its noise.

    The variance over seeds, with one degree of freedom less than there are seeds, and what items add to it, of which
    much is known, make a t with the degrees of freedom of Satterthwaite 1946. From one seed, items alone decide.
    """
    known = values[~np.isnan(values)]
    if not len(known) or (len(known) < 2 and items is None):
        return math.nan, math.nan
    of_seeds = float(np.var(known, ddof=1)) / len(known) if len(known) > 1 else 0.0
    variance = of_seeds if items is None else max(of_seeds + items.added, items.alone)
    degrees = (len(known) - 1) * (variance / of_seeds) ** 2 if of_seeds else _NORMAL
    half = math.sqrt(variance) * float(stdtrit(min(degrees, _NORMAL), (1 + level) / 2))
    return float(known.mean()) - half, float(known.mean()) + half
