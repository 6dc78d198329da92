"""Roots of many monotone functions at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def solve_decreasing(
    function: Callable[[np.ndarray], np.ndarray], value: float, low: np.ndarray, high: np.ndarray, steps: int = 24
) -> np.ndarray:
    """The x between `low` and `high` (both positive) at which each decreasing function takes `value`.

    `function` maps x (n,) to values (n,); the intervals are halved on a logarithmic scale.
    """
    low, high = np.log(low), np.log(high)
    for _ in range(steps):
        middle = (low + high) / 2
        is_above = function(np.exp(middle)) > value
        low, high = np.where(is_above, middle, low), np.where(is_above, high, middle)
    return np.asarray(np.exp((low + high) / 2))
