"""How the variances of the rows are spread: a hierarchical model whose parameters are integrated out, not estimated.

The residual variance v of a row has d degrees of freedom: v ~ sigma^2 chi2(d) / d. Its true variance sigma^2 is

    common:   sigma^2 ~ d0 s^2 / chi2(d0)        with probability 1 - epsilon (Smyth 2004), or
    noisier:  log sigma^2 uniform on log s^2 ... log(10^4 s^2), with probability epsilon.

The second part makes the model robust against a few rows far noisier than the rest (compare Phipson et al. 2016). The
spread tau of the common part, tau^2 = var(log sigma^2) = trigamma(d0 / 2), has a uniform prior on a grid, log s^2 a
flat one. With three seeds neither is well known, and an estimate in their place makes the test too bold.

- Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression in microarray
  experiments"
- Phipson, Lee, Majewski, Alexander, Smyth 2016, "Robust hyperparameter estimation protects against hypervariable genes
  and improves power to detect differential expression"
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, fdtri, gammainc, gammaln, polygamma

WIDEST = 1e4  # the variance of a noisier row is at most this times s^2
NOISIER_ROWS = 0.5  # expected in a table, whatever its number of rows

_SPREADS = np.array([0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4])  # tau
_OFFSETS = np.linspace(-4, 4, 21)  # of log s^2 from a first estimate, in standard errors
# Gauss-Hermite quadrature with three points: nodes in standard deviations, and their weights
_NODES, _WEIGHTS = np.sqrt(3) * np.array([-1.0, 0, 1]), np.array([1, 4, 1]) / 6
_NEGLIGIBLE = 2e-3  # posterior weight of a component that is left out
_SMALLEST = 1e-5  # a variance counts as at least this times the typical one: log(0) would dominate the likelihood


def _inverse_trigamma(value: np.ndarray) -> np.ndarray:
    """The y whose trigamma is `value` (Newton's method on 1 / trigamma, which is convex; Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, y)
        y = y + trigamma * (1 - trigamma / value) / polygamma(2, y)
    return np.asarray(y)


PRIOR_DEGREES = np.concatenate([[np.inf], 2 * _inverse_trigamma(_SPREADS[1:] ** 2)])  # d0 of each tau


@dataclass(frozen=True)
class Components:
    """The posterior of (tau, s^2): components of known `prior_degrees` d0, scale `s2` and `weight`, all (components,).

    The weights sum to one. `epsilon` is the prior probability that a row is a noisier one.
    """

    weight: np.ndarray
    prior_degrees: np.ndarray
    s2: np.ndarray
    epsilon: float

    @property
    def typical_variance(self) -> float:
        """The median of sigma^2 in common rows, as a geometric mean over components."""
        d0 = np.where(np.isinf(self.prior_degrees), 1.0, self.prior_degrees)
        medians = np.where(np.isinf(self.prior_degrees), 1.0, d0 / chdtri(d0, 0.5))  # of d0 / chi2(d0)
        return float(np.exp(self.weight @ np.log(self.s2 * medians)))

    def moderated(self, v: np.ndarray, d: np.ndarray) -> np.ndarray:
        """(components, rows): the posterior scale of sigma^2 in a common row, (d0 s^2 + d v) / (d0 + d)."""
        d0, s2 = self.prior_degrees[:, None], self.s2[:, None]
        share = np.where(np.isinf(d0), 1.0, 1 / (1 + d / np.where(np.isinf(d0), 1.0, d0)))  # d0 / (d0 + d)
        return np.asarray(share * s2 + (1 - share) * v)

    def noisier(self, v: np.ndarray, d: np.ndarray) -> np.ndarray:
        """(components, rows): the posterior probability that a row is a noisier one."""
        s2 = self.s2[:, None]
        v = np.maximum(v, _SMALLEST * s2)
        common = np.log1p(-self.epsilon) + _log_common(v / s2, d, self.prior_degrees[:, None])
        noisier = np.log(self.epsilon) + _log_noisier(v / s2, d)
        return np.asarray(1 / (1 + np.exp(np.minimum(common - noisier, 700))))


def components(v: np.ndarray, d: np.ndarray) -> Components:
    """The posterior of (tau, s^2) given residual variances `v` with `d` degrees of freedom (rows,), not all zero.

    For each tau, the likelihood is summed over a grid of log s^2 around the median of log v; then three Gauss-Hermite
    points stand for the posterior of log s^2.
    """
    epsilon = min(0.5, NOISIER_ROWS / len(v))
    v = np.maximum(v, _SMALLEST * (np.median(v) or np.mean(v)))
    d0 = PRIOR_DEGREES[:, None]
    centre = np.median(np.log(v) - np.log(_median_of_common(d, d0)), axis=1)  # (taus,)
    trigamma = np.concatenate([[0.0], polygamma(1, PRIOR_DEGREES[1:] / 2)])
    error = 1.3 * np.sqrt((np.mean(polygamma(1, d / 2)) + trigamma) / len(v))  # (taus,), of a median of logarithms
    offsets = error[:, None] * _OFFSETS  # (taus, grid)

    x = v / np.exp(centre[:, None] + offsets)[:, :, None]  # (taus, grid, rows)
    common = np.log1p(-epsilon) + _log_common(x, d, d0[:, :, None])
    likelihood = np.logaddexp(common, np.log(epsilon) + _log_noisier(x, d))
    log_likelihood = (likelihood - np.log(v / x)).sum(2)  # densities of v, not of x = v / s^2
    top = log_likelihood.max()
    density = np.exp(log_likelihood - top)  # (taus, grid)
    of_tau = density.sum(1) * error  # the grid is as wide as `error`
    share = density / np.maximum(density.sum(1, keepdims=True), 1e-300)
    mean = (share * offsets).sum(1)
    sd = np.sqrt((share * (offsets - mean[:, None]) ** 2).sum(1))

    weight = (of_tau[:, None] * _WEIGHTS).ravel() / of_tau.sum()
    s2 = np.exp((centre + mean)[:, None] + sd[:, None] * _NODES).ravel()
    kept = weight > _NEGLIGIBLE
    return Components(weight[kept] / weight[kept].sum(), np.repeat(PRIOR_DEGREES, 3)[kept], s2[kept], epsilon)


def common_scale(v: np.ndarray, d: np.ndarray) -> float:
    """The variance s^2 common to most rows, given `v` with `d` degrees of freedom (rows,), not all zero.

    All common rows have the very same variance here, and up to two thirds of the rows are noisier ones, with variances
    up to 100 s^2: so rows in two states do not raise the scale that they are measured by. The geometric mean of s^2
    over its posterior, the share of noisier rows and log s^2 having flat priors.
    """
    typical = np.median(v) or np.mean(v)
    v = np.maximum(v, 1e-4 * typical)
    log_s2 = np.log(typical) - 3.5 + np.linspace(0, 5, 49)
    x = v / np.exp(log_s2)[:, None]  # (grid, rows)
    common, noisier = _log_common(x, d, np.array(np.inf)), _log_noisier(x, d, widest=100.0)
    shares = np.array([0.02, 0.1, 0.25, 0.45, 0.65])[:, None, None]
    likelihood = np.logaddexp(np.log1p(-shares) + common, np.log(shares) + noisier) - log_s2[:, None]
    log_posterior = likelihood.sum(2)  # (shares, grid)
    posterior = np.exp(log_posterior - log_posterior.max())
    return float(np.exp((posterior * log_s2).sum() / posterior.sum()))


def _median_of_common(d: np.ndarray, d0: np.ndarray) -> np.ndarray:
    """Median of v / s^2 in a common row: of F(d, d0), or chi2(d) / d where d0 is infinite."""
    return np.asarray(np.where(np.isinf(d0), chdtri(d, 0.5) / d, fdtri(d, np.where(np.isinf(d0), 1.0, d0), 0.5)))


def _log_common(x: np.ndarray, d: np.ndarray, d0: np.ndarray) -> np.ndarray:
    """Log density of x = v / s^2 in a common row: F with d and d0 degrees of freedom, or chi2(d) / d."""
    finite = np.where(np.isinf(d0), 1.0, d0)
    f = gammaln((d + finite) / 2) - gammaln(finite / 2) + d / 2 * np.log(d / finite)
    f = f - (d + finite) / 2 * np.log1p(d / finite * x)
    chi2 = d / 2 * np.log(d / 2) - d / 2 * x
    return np.asarray(np.where(np.isinf(d0), chi2, f) - gammaln(d / 2) + (d / 2 - 1) * np.log(x))


def _log_noisier(x: np.ndarray, d: np.ndarray, widest: float = WIDEST) -> np.ndarray:
    """Log density of x = v / s^2 in a noisier row: that of v given sigma^2, averaged over log sigma^2.

    With P the regularised incomplete gamma function and W the `widest` ratio of sigma^2 to s^2, it is
    (P(d/2, d x / 2) - P(d/2, d x / (2 W))) / (x log W).
    """
    mass = gammainc(d / 2, d * x / 2) - gammainc(d / 2, d * x / (2 * widest))
    return np.asarray(np.log(np.maximum(mass, 1e-300)) - np.log(x) - np.log(np.log(widest)))
