"""How much compute a change is worth: the factor by which its control would need more tokens to end as low.

The baseline is trained at several budgets, its rungs, each with a schedule of its own. Between them its mean loss is
interpolated in x = ln(tokens / tokens of the rows) by the parabola through three rungs, which gives the

    rise(x) = sum_j w[j](x) L[j] - L[0],    L[0] its mean loss at the budget of the rows, where x = 0.

A row whose difference from its control is delta is worth the x with rise(x) = delta. The interval holds every x that
the test of the losses does not reject (Fieller 1954, for the ratio that it is where the rise is a line):

    |delta - rise(x)| <= c * error(x),    c the half width of the interval of delta over its standard error,

so that it excludes a gain of 1 exactly where the row differs. Where the control is the baseline itself, its runs stand
in delta and in rise(x), which error(x) takes into account; another control is taken to gain from more tokens as the
baseline does. Nothing is extrapolated: a bound that the rungs do not reach is open.

- Fieller 1954, "Some problems in interval estimation"
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ablate.statistics.comparison import Comparison

FEWEST_SEEDS = 2  # of all rungs; from fewer, nothing is known of their noise
_POINTS = 400  # of the grid on which bounds are looked for before they are refined


@dataclass(frozen=True)
class Gain:
    """The natural logarithm of a gain in tokens, with an interval as wide as that of the loss.

    All are NaN where the rungs tell nothing; `log` is NaN, and a bound infinite, where the rungs do not reach it.
    `needs` is then the factor of tokens at which the next rung would be, else NaN.
    """

    log: float = math.nan
    low: float = math.nan
    high: float = math.nan
    needs: float = math.nan

    def times(self, factor: float, low: float | None = None, high: float | None = None) -> Gain:
        """The gain in another unit, worth `factor` times as much; `low` and `high` are the interval of the factor.

        Both intervals are taken as independent: half widths add up as the sides of a right angle.
        """
        shift = math.log(factor)
        below = math.log(factor / low) if low else 0.0
        above = math.log(high / factor) if high else 0.0
        if math.isnan(self.log):
            return Gain(self.log, self.low + shift - below, self.high + shift + above, self.needs)
        log = self.log + shift
        return Gain(log, log - math.hypot(self.log - self.low, below), log + math.hypot(self.high - self.log, above))


@dataclass(frozen=True)
class Rungs:
    """The baseline at several budgets, as far as is known by which its loss falls.

    `logs` (rungs,) are the logarithms of the factors of tokens, ascending, 0 among them; `means` (rungs,) the mean
    losses over `seeds` seeds, and `variance` that of one run within a seed.
    """

    logs: np.ndarray
    means: np.ndarray
    variance: float
    seeds: int

    @classmethod
    def of(cls, factors: np.ndarray, losses: np.ndarray) -> Rungs | None:
        """From `losses` (rungs, seeds), NaN where a run is missing, at `factors` (rungs,) of tokens, 1 among them.

        Rungs with too few runs are left out, then seeds that one of the others lacks. None where fewer than two rungs
        and seeds are left, or not that at 1. The variance is what remains without the effects of rungs and seeds.
        """
        order = np.argsort(factors)
        factors, losses = np.asarray(factors, float)[order], np.asarray(losses, float)[order]
        used = (~np.isnan(losses)).sum(1) >= FEWEST_SEEDS
        factors, losses = factors[used], losses[used]
        losses = losses[:, ~np.isnan(losses).any(0)]
        rungs, seeds = losses.shape
        if rungs < 2 or seeds < FEWEST_SEEDS or 1.0 not in factors:
            return None
        left = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
        variance = float((left**2).sum() / (rungs - 1) / (seeds - 1))
        return cls(np.log(factors), losses.mean(1), variance, seeds)

    @property
    def falls(self) -> bool:
        """Whether more tokens end lower at every rung; else a loss is worth no certain number of them."""
        return bool((np.diff(self.means) < 0).all())

    @property
    def slope(self) -> float:
        """By how much the loss falls when tokens grow by a factor of e, at the budget of the rows; in nats."""
        step = 1e-4
        low, high = max(self.logs[0], -step), min(self.logs[-1], step)
        return float((self.rise(low) - self.rise(high)) / (high - low))

    def weights(self, x: float) -> np.ndarray:
        """(rungs,): what each rung counts for the loss at `x`; the parabola through the three next to it, or a line."""
        first = self._first_of_three(x)
        chosen = np.arange(first, min(first + 3, len(self.logs)))
        weights = np.zeros(len(self.logs))
        for rung in chosen:
            others = self.logs[chosen[chosen != rung]]
            weights[rung] = np.prod((x - others) / (self.logs[rung] - others))
        return weights

    def _first_of_three(self, x: float) -> int:
        """The first of three neighbours between whose outer two `x` lies, of two such triples the one nearer to 0."""
        last = max(0, len(self.logs) - 3)
        holds = [first for first in range(last + 1) if self.logs[first] <= x <= self.logs[first + 2 if last else -1]]
        middle = {first: abs(self.logs[min(first + 1, len(self.logs) - 1)]) for first in holds}
        return min(holds, key=middle.__getitem__) if holds else (0 if x < self.logs[0] else last)

    def rise(self, x: float) -> float:
        """The baseline's loss at exp(x) times the tokens, minus that at the budget of the rows."""
        return float(self.weights(x) @ self.means - self.means[self._here])

    @property
    def _here(self) -> int:
        return int(np.flatnonzero(self.logs == 0)[0])

    def error(self, x: float, found: Comparison, is_of_baseline: bool) -> float:
        """The standard error of a row's difference minus rise(x)."""
        change = self.weights(x)  # of rise(x) by each rung's mean
        change[self._here] -= 1.0
        variances = np.full(len(change), self.variance / self.seeds)
        together = 0.0
        if is_of_baseline:
            # The baseline's runs count -1 in the difference and change[here] in the rise. The variance of their mean is
            # what the difference has beside the row's own, and as much smaller as the rungs have more seeds.
            variances[self._here] = found.error**2 - found.own_error**2
            variances[self._here] *= found.seeds / max(self.seeds, found.seeds)
            together = -change[self._here] * variances[self._here]
        return math.sqrt(max(0.0, found.error**2 + float(change**2 @ variances) - 2 * together))


def gain(found: Comparison, rungs: Rungs | None, is_of_baseline: bool = True) -> Gain:
    """What the difference `found` is worth; `is_of_baseline` says that the baseline is the row's control."""
    half = (found.high - found.low) / 2
    if rungs is None or not rungs.falls or not np.isfinite([found.delta, half, found.error]).all():
        return Gain()
    critical = half / found.error if found.error > 0 else 0.0
    low, high = float(rungs.logs[0]), float(rungs.logs[-1])

    def beyond(x: float) -> float:
        return found.delta - rungs.rise(x)

    def accepted(x: float) -> float:
        return critical * rungs.error(x, found, is_of_baseline) - abs(beyond(x))

    grid = np.unique([*np.linspace(low, high, _POINTS), 0.0])
    excess = np.array([beyond(x) for x in grid])
    if excess[0] > 0:  # worse than the baseline with the fewest tokens
        return _out_of_reach(accepted, grid[::-1], -math.inf, _next_rung(rungs.logs))
    if excess[-1] < 0:
        return _out_of_reach(accepted, grid, math.inf, _next_rung(rungs.logs[::-1]))
    crossed = np.flatnonzero((excess[:-1] <= 0) & (excess[1:] >= 0))
    at = min(crossed, key=lambda place: abs(grid[place]))
    middle = float(brentq(beyond, grid[at], grid[at + 1]))
    lower = _bound(accepted, [middle, *grid[at::-1]], -math.inf)
    upper = _bound(accepted, [middle, *grid[at + 1 :]], math.inf)
    is_open = {-math.inf: rungs.logs, math.inf: rungs.logs[::-1]}
    needs = next((_next_rung(is_open[bound]) for bound in (upper, lower) if bound in is_open), math.nan)
    return Gain(middle, lower, upper, needs)


def _bound(accepted: Callable[[float], float], points: list[float], end: float) -> float:
    """The first x of `points`, from an accepted one outwards, at which it is no longer accepted; `end` without one."""
    before = points[0]
    for x in points[1:]:
        if accepted(x) < 0:
            return float(brentq(accepted, before, x)) if accepted(before) > 0 else before
        before = x
    return end


def _out_of_reach(accepted: Callable[[float], float], points: np.ndarray, end: float, needs: float) -> Gain:
    """Of a row that ends beyond the last of `points`: the interval from its near bound to the open `end`."""
    near = _bound(accepted, list(points[::-1]), math.nan) if accepted(points[-1]) > 0 else float(points[-1])
    near = -end if math.isnan(near) else near
    return Gain(math.nan, min(near, end), max(near, end), needs)


def _next_rung(logs: np.ndarray) -> float:
    """The factor of tokens one step beyond the first of `logs`, each step a factor as that between the first two."""
    return float(np.exp(2 * logs[0] - logs[1]))


def detectable_gain(detectable: float, rungs: Rungs | None) -> float:
    """The factor of tokens that `detectable` nats are worth; infinite beyond the rungs, NaN where unknown."""
    if rungs is None or not rungs.falls or math.isnan(detectable):
        return math.nan
    if rungs.rise(float(rungs.logs[-1])) > -detectable:
        return math.inf
    return math.exp(float(brentq(lambda x: rungs.rise(x) + detectable, 0.0, float(rungs.logs[-1]))))
