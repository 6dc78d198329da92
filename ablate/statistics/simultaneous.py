"""One test over a whole table: which differences exceed what all errors together would do by chance.

T[r] = |delta[r]| / w[r] measures a difference in the shape w of the simultaneous region. The adjusted p of a row is the
probability that, among the rows not yet found to differ, some error reaches its T (step-down, Westfall and Young 1993).
All differences from one control share its error, which therefore costs a quantile once, not once for every row.

- Westfall and Young 1993, "Resampling-based multiple testing"
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ablate.statistics.errors import DifferenceErrors

_CERTAIN = 0.999  # an adjusted p above this is as good as 1


@dataclass(frozen=True)
class Region:
    """The simultaneous region of a family of differences `delta` (rows,): |error[r]| <= critical w[r], at 1 - alpha."""

    errors: DifferenceErrors
    delta: np.ndarray
    w: np.ndarray
    alpha: float

    @classmethod
    def of(cls, errors: DifferenceErrors, delta: np.ndarray, alpha: float) -> Region:
        return cls(errors, delta, errors.widths(alpha), alpha)

    @property
    def statistics(self) -> np.ndarray:
        """T (rows,)."""
        return np.asarray(np.abs(self.delta) / self.w)

    def critical(self, in_play: np.ndarray) -> float:
        """The c for which some error of the rows `in_play` (rows,) exceeds c w with probability alpha."""

        def excess(log_c: float) -> float:
            return self.errors.any_outside(np.where(in_play, np.exp(log_c) * self.w, np.inf)) - self.alpha

        return float(np.exp(brentq(excess, np.log(1e-3), np.log(1e3), xtol=1e-6)))

    def p_adjusted(self, until: float = _CERTAIN) -> np.ndarray:
        """(rows,): the probabilities of the step-down test, largest T first, none below that of the step before.

        From the first that exceeds `until` on they are 1.
        """
        p, largest = np.ones(len(self.delta)), 0.0
        in_play, statistics = np.ones(len(self.delta), bool), self.statistics
        for row in np.argsort(-statistics, kind="stable"):
            half = np.where(in_play, statistics[row] * self.w, np.inf)
            largest = max(largest, self.errors.any_outside(half))
            if largest > until:
                break
            p[row], in_play[row] = largest, False
        return p

    def half_widths(self, p_adjusted: np.ndarray) -> tuple[float, np.ndarray]:
        """(critical value of the whole family, half widths of the intervals (rows,)).

        All intervals hold together with probability 1 - alpha. A row that differs only because rows with larger T were
        set aside before it has the interval of its step, which excludes zero.
        """
        in_play, statistics = np.ones(len(self.delta), bool), self.statistics
        of_family = self.critical(in_play)
        half = of_family * self.w
        for row in np.argsort(-statistics, kind="stable"):
            if p_adjusted[row] > self.alpha:
                break
            if statistics[row] <= of_family:
                half[row] = self.critical(in_play) * self.w[row]
            in_play[row] = False
        return of_family, half
