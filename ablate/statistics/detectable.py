"""The smallest true difference that a design finds four times in five."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr

from ablate.statistics.errors import DifferenceErrors
from ablate.statistics.solving import solve_decreasing

POWER = 0.8
_AIM = 0.83  # the posterior probability at which simulated tables find a difference with probability 0.8
_QUANTILES = (np.arange(2000) + 0.5) / 2000


def detectable_effect(errors: DifferenceErrors, half: np.ndarray) -> np.ndarray:
    """(rows,): the true difference that the rows of a group are found to have with 80 % power, on average.

    With h = `half` (rows,), the half widths of the intervals, it is the D at which the mean over the rows of a group of
    P(D + e[row] - e[control] > h[row]) is 0.83. It is one number for a group: from three seeds, how noisy a single row
    is says little of how noisy it would be again.
    """

    def missed(sizes: np.ndarray) -> np.ndarray:
        return 1 - errors.mean_of_groups(errors.found(sizes[errors.group], half))

    least = errors.mean_of_groups(half)
    return np.asarray(solve_decreasing(missed, 1 - _AIM, 1e-2 * least, 1e2 * least, steps=16)[errors.group])


def detectable_effect_of_t(error: float, degrees: float, half: float) -> float:
    """The same for one t test: its standard `error` with `degrees` of freedom, and the half width of its interval.

    It is error * x with P(|T| > half / error) = power, where T is noncentral t with noncentrality x.
    """
    if not error > 0:
        return 0.0
    critical = half / error
    # T = (x + z) / s, with z standard normal and s^2 chi-squared / degrees. Averaging the normal probability over 2000
    # quantiles of s is accurate to 2e-4, and stays finite where the noncentral t of scipy does not.
    s = np.sqrt(chdtri(degrees, _QUANTILES) / degrees)

    def excess(x: float) -> float:
        return float(np.mean(ndtr(x - critical * s) + ndtr(-x - critical * s))) - POWER

    return error * float(brentq(excess, 0.0, 4 * critical * float(s.max()) + 10))
