"""The errors of differences of mean losses: what is known of them once the residuals have been seen.

A difference of means errs by e[row] - e[control], where e is the mean of the noise over the seeds that both have. Rows
with the same control and the same seeds form a group: they share one e[control]. Given a component of the posterior of
the row variances (`row_variance`) and e[control], the rows of a group are independent, so that

    P(all rows of a group inside) = E over e[control] of the product over rows of P(|e[row] - e[control]| <= half[row]).

Over several groups the product of these probabilities is a lower bound: given the variances, each group's event is
convex and symmetric in jointly normal errors (Gaussian correlation inequality, Royen 2014), and each becomes less
likely as a variance grows, which their average over variances keeps. It is exact for one group, and covers a row that
is judged itself and the control of others, controls of controls, and rows that lack some seeds.

- Dunnett 1955, "A multiple comparison procedure for comparing several treatments with a control"
- Royen 2014, "A simple proof of the Gaussian correlation conjecture extended to multivariate gamma distributions"
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, gammainc, ndtr

from ablate.statistics.row_variance import Components
from ablate.statistics.solving import solve_decreasing
from ablate.statistics.student_t import StudentTails

# Prior probability that a control, if it is that of all rows, is noisier than its own prior says. Extra seeds, which
# only the control ran, show its variance, so that less has to be allowed for.
NOISIER_CONTROL, NOISIER_CONTROL_WITH_EXTRA_SEEDS = 0.8, 0.7

_LOG_RATIOS = np.arange(-15, 39) * 0.3  # log of a control's variance over s^2
# |e[control]| in units of s / sqrt(seeds): cells, and the value that stands for each
_EDGES = np.concatenate([[0.0], np.geomspace(0.25, 1000, 33)])
_POINTS = np.concatenate([[_EDGES[1] / 2], np.sqrt(_EDGES[1:-1] * _EDGES[2:]), _EDGES[-1:]])
# (ratios, cells): probability of a cell for a normal error of each variance
_CELLS = np.diff(2 * ndtr(np.append(_EDGES, np.inf) / np.exp(_LOG_RATIOS / 2)[:, None]) - 1, axis=1)
_NEGLIGIBLE = 1e-5  # probability of a cell that is left out
_SEED_VARIANCE_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)


class RowErrors:
    """The error of each row's mean over n seeds, given a component; all arrays (components, rows).

    A common row's is sqrt(moderated / n) times a t with d0 + d degrees of freedom. A noisier row's is taken for a t
    with d degrees, its scale such that the tails agree with the posterior in which sigma^2 is at least s^2: with P the
    regularised incomplete gamma function, v / P(d/2, d v / (2 s^2))^(2/d) in place of v.
    """

    def __init__(self, components: Components, v: np.ndarray, d: np.ndarray, n: np.ndarray) -> None:
        s2 = components.s2[:, None]
        v = np.maximum(v, 1e-12 * s2)
        far = v / np.maximum(gammainc(d / 2, d * v / (2 * s2)), 1e-300) ** (2 / d)
        moderated = components.moderated(v, d)
        self.noisier = components.noisier(v, d)
        # sigma^2 is scale^2 degrees / chi2(degrees), so that the mean of 1 / sigma^2 is 1 / scale^2
        self.precision = (1 - self.noisier) / moderated + self.noisier / far
        self._scales = np.sqrt(n / moderated), np.sqrt(n / far)
        degrees = np.stack([components.prior_degrees[:, None] + d, d + 0 * s2])
        kinds, inverse = np.unique(degrees, return_inverse=True)
        self._tails, self._kinds = StudentTails(kinds), inverse.reshape(degrees.shape)

    def above(self, x: np.ndarray) -> np.ndarray:
        """P(e[row] > x) for `x` (components, rows, any)."""
        common, noisier = (
            self._tails.above(x * scale[:, :, None], kind[:, :, None])
            for scale, kind in zip(self._scales, self._kinds, strict=True)
        )
        return np.asarray(common + self.noisier[:, :, None] * (noisier - common))


@dataclass(frozen=True)
class Control:
    """What the runs of a control say of its variance.

    `v` with `d` degrees of freedom comes from its residuals. `extra` (k,) are its losses on seeds that no other row
    ran, less its mean on the shared seeds; `seed_variance`, that between seeds, is known with `seed_degrees`. `share`
    is the part of all comparisons that it enters.
    """

    v: float
    d: int
    extra: np.ndarray
    seed_variance: float
    seed_degrees: int
    share: float

    def variance_ratio(self, components: Components) -> np.ndarray:
        """(components, ratios): the posterior of sigma^2 / s^2 of this control.

        An error in the variance of a control harms every row compared with it. So its prior is the rows' own with
        probability 1 - epsilon, and else flat in log sigma^2 from s^2 upwards; epsilon is proportional to `share`.
        """
        has_extra = len(self.extra) > 0
        epsilon = self.share * (NOISIER_CONTROL_WITH_EXTRA_SEEDS if has_extra else NOISIER_CONTROL)
        d0, s2 = components.prior_degrees[:, None], components.s2[:, None]
        finite = np.where(np.isinf(d0), 1.0, d0)
        # sigma^2 = d0 s^2 / chi2(d0) has the density x^(-d0/2) exp(-d0 / (2 x)) in log x, with x = sigma^2 / s^2
        own = np.where(np.isinf(d0), _LOG_RATIOS == 0, np.exp(-finite / 2 * (_LOG_RATIOS + np.exp(-_LOG_RATIOS))))
        above = _LOG_RATIOS >= 0
        prior = (1 - epsilon) * own / own.sum(1, keepdims=True) + epsilon * above / above.sum()
        x = np.exp(_LOG_RATIOS)
        log_likelihood = -self.d / 2 * _LOG_RATIOS - self.d / 2 * self.v / s2 / x
        if has_extra and self.seed_degrees > 0:
            log_likelihood = log_likelihood + self._of_extra_seeds(x, s2)
        posterior = prior * np.exp(log_likelihood - np.max(np.where(prior > 0, log_likelihood, -np.inf), 1)[:, None])
        return np.asarray(posterior / posterior.sum(1, keepdims=True))

    def _of_extra_seeds(self, x: np.ndarray, s2: np.ndarray) -> np.ndarray:
        """(components, ratios): log likelihood of the extra losses, which contain the effects of their seeds.

        With u = sigma^2 + seed variance, k extra and n = d + 1 shared seeds, the deviations from the shared mean are
        normal with covariance u (I + 11' / n). The seed variance is averaged over quantiles of its estimate.
        """
        k, mean = len(self.extra), self.extra.mean()
        squares = ((self.extra - mean) ** 2).sum() + k * mean**2 / (1 + k / (self.d + 1))
        average = np.zeros((len(s2), len(x)))
        for quantile in _SEED_VARIANCE_QUANTILES:
            seed_variance = self.seed_variance * self.seed_degrees / chdtri(self.seed_degrees, 1 - quantile)
            u = x + seed_variance / s2
            average += u ** (-k / 2) * np.exp(-squares / s2 / (2 * u))
        return np.asarray(np.log(np.maximum(average, 1e-300)))


class DifferenceErrors:
    """The joint distribution of the errors of all differences, in groups of rows that share their control's error.

    `group` (rows,) says to which group a row belongs; `controls` and `seeds` have one entry per group, the latter the
    number of seeds that its rows share with the control.
    """

    def __init__(
        self,
        components: Components,
        rows: RowErrors,
        group: np.ndarray,
        controls: list[Control],
        seeds: np.ndarray,
    ) -> None:
        self.weight, self.rows, self.group = components.weight, rows, group
        distinct = {id(control): control.variance_ratio(components) for control in controls}
        ratios = np.array([distinct[id(control)] for control in controls])  # (groups, components, ratios)
        cells = (ratios @ _CELLS).transpose(1, 0, 2)  # (components, groups, cells)
        kept = cells.max((0, 1)) > _NEGLIGIBLE
        self.cells = cells[:, :, kept] / cells[:, :, kept].sum(2, keepdims=True)
        unit = np.sqrt(components.s2[:, None] / seeds)  # (components, groups)
        self.points = unit[:, :, None] * _POINTS[kept]  # |e[control]|
        self._upper_edges = unit[:, :, None] * np.append(_EDGES[1:], _EDGES[-1])[kept]
        self._members = (group == np.arange(len(seeds))[:, None]).astype(float)  # (groups, rows)
        self._precisions = rows.precision, (ratios / np.exp(_LOG_RATIOS)).sum(2).T / components.s2[:, None]
        self._seeds = seeds

    def mean_of_groups(self, values: np.ndarray) -> np.ndarray:
        """(groups,): the means of `values` (rows,)."""
        return np.asarray(self._members @ values / self._members.sum(1))

    def standard_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors (rows,) of the differences, and the row's part in each.

        From the posterior mean of 1 / sigma^2: that of sigma^2 itself is infinite where a row may have no more than two
        degrees of freedom.
        """
        row, control = (1 / (self.weight @ precision) for precision in self._precisions)
        seeds = self._seeds[self.group]
        return np.sqrt((row + control[self.group]) / seeds), np.sqrt(row / seeds)

    def outside(self, half: np.ndarray) -> np.ndarray:
        """(components, rows, cells): P(|e[row] - e[control]| > half[row]) given e[control]."""
        e = self.points[:, self.group]
        return np.asarray(self.rows.above(half[:, None] - e) + self.rows.above(half[:, None] + e))

    def any_outside(self, half: np.ndarray) -> float:
        """P(|e[row] - e[control]| > half[row] for some row), or an upper bound where there are several groups."""
        log_inside = np.log1p(-np.minimum(self.outside(half), 1 - 1e-12))
        of_group = (self.cells * -np.expm1(self._members @ log_inside)).sum(2)  # (components, groups)
        return float(self.weight @ -np.expm1(np.log1p(-np.minimum(of_group, 1 - 1e-12)).sum(1)))

    def each_outside(self, half: np.ndarray) -> np.ndarray:
        """(rows,): P(|e[row] - e[control]| > half[row]) of each row by itself."""
        return np.asarray(self.weight @ (self.cells[:, self.group] * self.outside(half)).sum(2))

    def found(self, size: np.ndarray, half: np.ndarray) -> np.ndarray:
        """(rows,): P(size[row] + e[row] - e[control] > half[row])."""
        e, missing = self.points[:, self.group], (half - size)[:, None]
        above = (self.rows.above(missing - e) + self.rows.above(missing + e)) / 2
        return np.asarray(self.weight @ (self.cells[:, self.group] * above).sum(2))

    def widths(self, alpha: float) -> np.ndarray:
        """(rows,): the shape of the simultaneous region, sqrt(a^2 + b^2).

        `a` is the quantile of the row's own error at the two-sided level alpha / rows. `b` is that of its control's
        error at level alpha, times the share of all rows that are in its group. Quantiles stand in place of standard
        errors since the tails of rows differ: with standard errors, one noisy row would set the width for all.
        """
        rows = len(self.group)

        def tails(a: np.ndarray) -> np.ndarray:
            everywhere = np.broadcast_to(a, self.rows.noisier.shape)[:, :, None]
            return np.asarray(2 * self.weight @ self.rows.above(everywhere)[:, :, 0])

        top = self.standard_errors()[1]
        own = solve_decreasing(tails, alpha / rows, 1e-2 * top, 1e4 * top)
        level = alpha * self._members.mean(1)  # (groups,)
        below = np.cumsum(self.cells, axis=2)
        of_control = np.array(
            [
                [np.interp(1 - level[g], below[k, g], self._upper_edges[k, g]) for g in range(len(level))]
                for k in range(len(self.weight))
            ]
        )  # (components, groups)
        return np.asarray(np.hypot(own, (self.weight @ of_control)[self.group]))
