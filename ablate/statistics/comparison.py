"""Which rows differ from the row they are compared with, judged from three to eight seeds a row.

The test holds its error rate over the whole table, for rows of unequal noise and whatever rows share a control:

1. `residuals` removes the effects of rows and seeds; `row_variance` gives the posterior of how rows differ in noise.
2. `errors` derives from it the joint distribution of the errors of all differences.
3. `simultaneous` tests all rows at once, step by step, and gives intervals that hold together.

A difference is a mean over shared seeds, nothing else. Seeds that only a control ran serve its variance, not its mean:
where runs end in one of two states, they would shift every difference at once.

Scores of a finite number of items err by these, too, in the same way in all seeds. The standard error of a difference
is then hypot(error over seeds, what items add), and the region of the seeds' errors is wider by as much.

Losses have shape (rows, seeds), NaN where a run is missing; lower is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

from ablate.statistics.detectable import detectable_effect, detectable_effect_of_t
from ablate.statistics.errors import Control, DifferenceErrors, RowErrors
from ablate.statistics.residuals import Residuals, residuals
from ablate.statistics.row_variance import components
from ablate.statistics.simultaneous import Region

ALPHA = 0.05
FEWEST_SEEDS = 3
_NORMAL = 1e9  # degrees of freedom with which t is as good as normal


@dataclass(frozen=True)
class Comparison:
    """One row against its control: `delta` is row minus control in the unit of the losses, NaN where unknown.

    `seeds` is the number of seeds that both have. `low` and `high` are a simultaneous interval: those of all rows hold
    together with probability 1 - alpha, and one excludes zero exactly where its row `differs`. `p` is for this row by
    itself, `p_adjusted` for the whole table. `same_within` says that the difference is smaller than the margin, with
    the same error rate over the table. `detectable` is the true difference that is found with 80 % power. `error` is
    the standard error of `delta` over seeds, `own_error` the row's part in it. `item_error` is what a finite number of
    items adds to that: hypot(error, item_error) is the whole standard error; NaN where nothing is known of items.
    `is_paired` marks a plain paired t test.
    """

    seeds: int
    delta: float = np.nan
    error: float = np.nan
    own_error: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    p_adjusted: float = np.nan
    differs: bool = False
    same_within: bool = False
    detectable: float = np.nan
    is_paired: bool = False
    item_error: float = np.nan


@dataclass(frozen=True)
class Table:
    """A table of losses (rows, seeds) and the comparisons asked of it.

    The arrays of the comparisons, (rows - 1,) or (rows - 1, seeds), are those of rows 1…: their `controls`, the
    `differences` from these, NaN where a run is missing, and whether a row `is_judged`, with 3 shared seeds or more.
    """

    losses: np.ndarray
    controls: np.ndarray
    kept_out: np.ndarray
    differences: np.ndarray

    @classmethod
    def of(
        cls,
        losses: np.ndarray,
        controls: Sequence[int] | np.ndarray | None = None,
        kept_out: Sequence[bool] | np.ndarray | None = None,
    ) -> Table:
        """The table with its defaults; raises `ValueError` if the shapes do not match or a row is its own control."""
        losses = np.asarray(losses, dtype=float)
        rows = len(losses)
        controls = np.zeros(rows - 1, int) if controls is None else np.asarray(controls, dtype=int)
        kept_out = np.zeros(rows, bool) if kept_out is None else np.asarray(kept_out, dtype=bool)
        if len(controls) != rows - 1 or len(kept_out) != rows:
            raise ValueError(f"{rows} rows, but {len(controls)} controls and {len(kept_out)} rows kept out or not")
        if (controls == np.arange(1, rows)).any():
            raise ValueError("a row is its own control")
        return cls(losses, controls, kept_out, losses[1:] - losses[controls])

    @property
    def seeds(self) -> np.ndarray:
        return np.asarray((~np.isnan(self.differences)).sum(1))

    @property
    def delta(self) -> np.ndarray:
        sums, seeds = np.nansum(self.differences, axis=1), self.seeds
        return np.where(seeds > 0, sums / np.maximum(seeds, 1), np.nan)

    @property
    def is_judged(self) -> np.ndarray:
        return np.asarray(self.seeds >= FEWEST_SEEDS)

    def errors(self) -> DifferenceErrors | None:
        """The errors of the judged rows' differences; None where no noise or no second row is there to learn from."""
        noise = residuals(self.losses, self.kept_out)
        teaches = (noise.degrees > 0) & ~self.kept_out
        teaches[0] = False  # the baseline has a prior of its own
        judged = np.flatnonzero(self.is_judged) + 1
        controls = self.controls[judged - 1]
        if teaches.sum() < 2 or not noise.variance[teaches].any() or not len(judged):
            return None
        if (noise.degrees[[*judged, *controls]] < 1).any():
            return None
        model = components(noise.variance[teaches], noise.degrees[teaches])
        shared = ~np.isnan(self.differences[judged - 1])
        rows = RowErrors(model, noise.variance[judged], noise.degrees[judged], shared.sum(1))
        # rows with the same control and the same shared seeds are a group
        keys = np.column_stack([controls, shared])
        _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        known = {int(index): self._control(int(index), noise, float(np.mean(controls == index))) for index in controls}
        of_groups = [known[int(index)] for index in controls[first]]
        return DifferenceErrors(model, rows, group.ravel(), of_groups, shared.sum(1)[first])

    def _control(self, index: int, noise: Residuals, share: float) -> Control:
        losses = self.losses[index]
        extra = losses[~noise.is_shared & ~np.isnan(losses)] - np.nanmean(losses[noise.is_shared])
        variance, degrees = float(noise.variance[index]), int(noise.degrees[index])
        return Control(variance, degrees, extra, noise.seed_variance, noise.seed_degrees, share)


@dataclass(frozen=True)
class _Judgement:
    """What the test says of the judged rows, arrays (judged,); `family_half` are the half widths before any step."""

    p: np.ndarray
    p_adjusted: np.ndarray
    half: np.ndarray
    family_half: np.ndarray
    detectable: np.ndarray
    error: np.ndarray
    own_error: np.ndarray
    item_error: np.ndarray


@dataclass(frozen=True)
class Items:
    """What is known of the items of the judged differences, arrays (judged,), NaN where it is nothing."""

    error: np.ndarray
    least: np.ndarray

    @classmethod
    def of(cls, error: np.ndarray | None, least: np.ndarray | None, judged: np.ndarray) -> Items:
        nothing = np.full(len(judged), np.nan)
        return cls(nothing if error is None else error[judged], nothing if least is None else least[judged])

    def added_to(self, of_seeds: np.ndarray) -> np.ndarray:
        """(judged,): their part in the standard error, such that the whole of it is no less than they allow."""
        lacking = np.sqrt(np.maximum(self.least**2 - of_seeds**2, 0))
        return np.asarray(np.fmax(self.error, lacking))


def compare(
    losses: np.ndarray,
    controls: Sequence[int] | np.ndarray | None = None,
    kept_out: Sequence[bool] | np.ndarray | None = None,
    alpha: float = ALPHA,
    margin: float | None = None,
    item_error: np.ndarray | None = None,
    least_error: np.ndarray | None = None,
) -> list[Comparison]:
    """Compare each of the rows 1… of `losses` (rows, seeds) with its control.

    `controls` (rows - 1) are the indices of the rows that rows 1… are compared with, by default 0, the baseline.
    `kept_out` (rows) marks rows that are judged but take no part in the estimate of the noise, such as a row that is
    the baseline in other words. `margin` is what `same_within` is judged by.

    `item_error` (rows - 1,) is what a finite number of items adds to the standard error of each difference, NaN where
    it is unknown; `least_error` (rows - 1,) what the items alone allow, below which no whole standard error is. Without
    any noise of seeds, the items decide, by a normal distribution.

    Missing runs: a difference is the mean over the seeds that row and control share, and its error counts these seeds.
    A row's variance has one degree of freedom less than it has runs. Rows of one control that lack different seeds do
    not have the very same error of the control; the probability over them is then bounded, never understated (see
    `errors`). A row with fewer than 3 shared seeds has its mean difference only, and is in no family.

    Where there is no second row to learn the noise from, it is the paired t test, with Bonferroni's correction should
    there be several rows. Raises `ValueError` if the shapes do not match or a row is its own control.
    """
    table = Table.of(losses, controls, kept_out)
    seeds, delta = table.seeds, table.delta
    result = [Comparison(seeds=int(n), delta=float(mean)) for n, mean in zip(seeds, delta, strict=True)]
    judged = np.flatnonzero(table.is_judged)
    if not len(judged):
        return result
    errors = table.errors()
    items = Items.of(item_error, least_error, judged)
    found = (
        _paired(table.differences[judged], items, alpha)
        if errors is None
        else _joint(errors, delta[judged], items, alpha)
    )
    for place, index in enumerate(judged):
        mean, half = float(delta[index]), float(found.half[place])
        result[index] = Comparison(
            seeds=int(seeds[index]),
            delta=mean,
            error=float(found.error[place]),
            own_error=float(found.own_error[place]),
            low=mean - half,
            high=mean + half,
            p=float(found.p[place]),
            p_adjusted=float(found.p_adjusted[place]),
            differs=bool(found.p_adjusted[place] <= alpha),
            same_within=margin is not None and abs(mean) + float(found.family_half[place]) < margin,
            detectable=float(found.detectable[place]),
            is_paired=errors is None,
            item_error=float(found.item_error[place]),
        )
    return result


def _joint(errors: DifferenceErrors, delta: np.ndarray, items: Items, alpha: float) -> _Judgement:
    """All differences tested at once."""
    error, own_error = errors.standard_errors()
    item_error = items.added_to(error)
    wider = _widened(errors, error, item_error, alpha)
    region = Region.of(errors, delta / wider, alpha)
    p_adjusted = region.p_adjusted()
    critical, half = region.half_widths(p_adjusted)
    family_half = critical * region.w
    p = np.minimum(errors.each_outside(np.abs(delta) / wider), p_adjusted)
    detectable = detectable_effect(errors, family_half)
    return _Judgement(
        p, p_adjusted, wider * half, wider * family_half, wider * detectable, error, own_error, item_error
    )


def _widened(errors: DifferenceErrors, error: np.ndarray, item_error: np.ndarray, alpha: float) -> np.ndarray:
    """(judged,): by how much items widen the region of the errors of seeds, 1 where nothing is known of them.

    The whole standard error over that of seeds; but where all rows share most of the error of seeds, that of a noisy
    control, the region is as narrow as for a single row. Of items, each row has its own: their part is as wide as for
    so many normal errors, at least.
    """
    if not np.nansum(item_error):
        return np.ones_like(error)
    region = Region.of(errors, np.zeros_like(error), alpha)
    half = region.critical(np.ones(len(error), bool)) * region.w / error
    of_normal = float(-ndtri(alpha / len(error) / 2))
    return np.asarray(np.hypot(error, np.nan_to_num(item_error) * np.maximum(1, of_normal / half)) / error)


def _paired(differences: np.ndarray, items: Items, alpha: float) -> _Judgement:
    """The paired t test of each of `differences` (rows, seeds), NaN where a run is missing; Bonferroni over the rows.

    Without any noise p is 0 for a difference and 1 for none.
    """
    rows, seeds = len(differences), (~np.isnan(differences)).sum(1)
    mean, error = np.nanmean(differences, axis=1), np.nanstd(differences, axis=1, ddof=1) / np.sqrt(seeds)
    item_error = items.added_to(error)
    whole = np.hypot(error, np.nan_to_num(item_error))
    degrees = np.where(error > 0, seeds - 1, _NORMAL)
    statistic = np.where(whole > 0, np.abs(mean) / np.where(whole > 0, whole, 1.0), np.where(mean == 0, 0.0, np.inf))
    p = 2 * stdtr(degrees, -statistic)
    half = whole * stdtrit(degrees, 1 - alpha / rows / 2)
    detectable = np.array([detectable_effect_of_t(*of) for of in zip(whole, degrees, half, strict=True)])
    return _Judgement(p, np.minimum(1.0, rows * p), half, half, detectable, error, error / np.sqrt(2), item_error)
