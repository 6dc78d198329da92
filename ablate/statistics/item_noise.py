"""What a finite number of items adds to the error of a mean score, told apart from the noise of seeds.

Values of items (seeds, items), of one model or the paired differences of two, are taken for a two-way random layout:

    x[s, i] = mean + seed[s] + item[i] + residual[s, i]

Over S seeds and N items the mean has the variance var(seed) / S + var(item) / N + var(residual) / (S N). Seeds show
the first and the last part (the variance of their means over S), items the second and the last (the variance of their
means over N). So what items add to the part of seeds is their own part less the residual's, which is in both.

- Searle, Casella, McCulloch 1992, "Variance components", chapter 4
- Miller 2024, "Adding error bars to evals", https://arxiv.org/abs/2411.00640: pairing by item
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDING = 1e-9  # of a difference between equal variances, relative


@dataclass(frozen=True)
class ItemNoise:
    """Variances, in the squared unit of a score: what items add to the variance over seeds, and what they allow alone,
    below which no standard error of the mean may be."""

    added: float
    alone: float

    def __add__(self, other: ItemNoise) -> ItemNoise:
        return ItemNoise(self.added + other.added, self.alone + other.alone)


def of_values(values: np.ndarray) -> ItemNoise | None:
    """The noise of the mean of `values` (seeds, items); None for fewer than two items.

    From one seed the residual cannot be told from the item: all of it is added.
    """
    seeds, items = values.shape
    if items < 2 or seeds < 1:
        return None
    by_item = values.mean(0)
    alone = float(by_item.var(ddof=1)) / items
    if seeds == 1:
        return ItemNoise(alone, alone)
    residuals = values - values.mean(1, keepdims=True) - by_item + values.mean()
    shared = float((residuals**2).sum()) / ((seeds - 1) * (items - 1)) / (seeds * items)
    added = alone - shared
    return ItemNoise(added if added > _ROUNDING * alone else 0.0, alone)


def of_standard_errors(errors: Sequence[float]) -> ItemNoise:
    """The noise where only the standard error over items of each run is known, `errors` (seeds,): their mean square.

    The residuals are in it, as many as one seed has: more is allowed for than with the values of the items.
    """
    variance = float(np.mean(np.square(errors)))
    return ItemNoise(variance, variance)


def of_average(parts: Sequence[ItemNoise]) -> ItemNoise:
    """The noise of the mean of several scores with other items each."""
    scale = len(parts) ** 2
    return ItemNoise(sum(part.added for part in parts) / scale, sum(part.alone for part in parts) / scale)
