"""Gains in compute: hand-computed ones, and how often their intervals hold the true one."""

import math

import numpy as np
import pytest

from ablate.statistics.comparison import Comparison, compare
from ablate.statistics.gain import Gain, Rungs, detectable_gain, gain
from tests.statistics.gain_simulation import CASES, Case
from tests.statistics.simulation import standard_error

FACTORS = np.array([0.5, 1.0, 2.0])
LINE = np.array([[0.3], [0.0], [-0.3]]) + 5.0 + np.array([0.01, 0.0, -0.01])  # loses 0.3 nats a doubling, without noise


def found(delta, error=0.01, half=0.02, own=0.007, seeds=3):
    return Comparison(seeds, delta, error, own, delta - half, delta + half)


def test_on_a_line_a_gain_is_the_ratio_to_its_slope():
    rungs = Rungs.of(FACTORS, LINE)
    assert rungs.slope == pytest.approx(0.3 / math.log(2)) and rungs.variance == pytest.approx(0, abs=1e-20)
    one = gain(found(-0.12), rungs)
    assert one.log == pytest.approx(0.12 / rungs.slope) == pytest.approx(0.4 * math.log(2))
    assert math.isnan(one.needs)


def test_the_interval_without_noise_of_the_rungs():
    """Of a control that is not the baseline: each bound is the end of the loss's interval over the slope."""
    rungs = Rungs.of(FACTORS, LINE)
    one = gain(found(-0.12), rungs, is_of_baseline=False)
    assert (one.low, one.high) == (pytest.approx(0.10 / rungs.slope), pytest.approx(0.14 / rungs.slope))


def test_where_the_baseline_is_the_control_its_runs_are_counted_once():
    """At double the tokens the row is compared with the baseline there, and that at the rows' budget drops out."""
    rungs = Rungs.of(FACTORS, LINE)
    assert rungs.error(math.log(2), found(-0.3, seeds=3), True) == pytest.approx(0.007)
    assert rungs.error(0.0, found(-0.3), True) == pytest.approx(0.01)


def test_noise_of_the_rungs_widens_the_interval():
    noise = 0.02 * np.random.default_rng(0).normal(size=(3, 5))
    wide = Rungs.of(FACTORS, np.repeat(LINE[:, :1], 5, axis=1) + noise)
    change = wide.weights(0.3) - [0, 1, 0]
    assert wide.error(0.3, found(-0.1), False) ** 2 == pytest.approx(0.01**2 + change @ change * wide.variance / 5)


def test_the_variance_of_a_run_is_what_remains_without_rungs_and_seeds():
    losses = LINE[:, :2] + np.array([[0.0, 0.02], [0.0, 0.0], [0.0, 0.0]])
    left = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
    assert Rungs.of(FACTORS, losses).variance == pytest.approx((left**2).sum() / 2)


def test_an_interval_excludes_no_gain_exactly_where_the_loss_differs():
    rungs = Rungs.of(FACTORS, LINE + 0.003 * np.random.default_rng(1).normal(size=LINE.shape))
    for delta in np.linspace(-0.05, 0.05, 40):
        one = gain(found(delta), rungs)
        assert (one.low > 0 or one.high < 0) == (abs(delta) > 0.02), delta


@pytest.mark.parametrize(("delta", "bounds"), [(-0.4, (math.log(2), math.inf)), (0.4, (-math.inf, -math.log(2)))])
def test_beyond_the_rungs_nothing_is_extrapolated(delta, bounds):
    one = gain(found(delta), Rungs.of(FACTORS, LINE))
    assert math.isnan(one.log) and (one.low, one.high) == pytest.approx(bounds)
    assert one.needs == pytest.approx(4 if delta < 0 else 0.25)


def test_a_bound_that_the_rungs_do_not_reach_is_open():
    one = gain(found(-0.29), Rungs.of(FACTORS, LINE), is_of_baseline=False)
    assert one.low == pytest.approx(0.27 / 0.3 * math.log(2)) and one.high == math.inf and one.needs == 4
    one = gain(found(-0.31), Rungs.of(FACTORS, LINE))  # beyond, but its near bound is not
    assert math.isnan(one.log) and 0.5 < one.low < math.log(2) and one.high == math.inf


def test_a_curve_is_followed_by_a_parabola():
    logs = np.log([0.25, 0.5, 1, 2, 4])
    curve = 3 - 0.3 * logs + 0.05 * logs**2
    rungs = Rungs.of(np.exp(logs), curve[:, None] + np.zeros(2))
    for x in (-1.2, -0.3, 0.2, 0.9):
        assert rungs.rise(x) == pytest.approx(-0.3 * x + 0.05 * x * x)
    assert rungs.slope == pytest.approx(0.3)


def test_two_rungs_are_joined_by_a_line():
    rungs = Rungs.of(np.array([1.0, 2.0]), np.array([[5.0, 5.0], [4.7, 4.7]]))
    assert rungs.rise(math.log(2) / 2) == pytest.approx(-0.15)
    assert gain(found(0.1), rungs).high <= 0 and gain(found(0.1), rungs).needs == pytest.approx(0.5)


@pytest.mark.parametrize(
    "losses",
    [
        np.array([[5.0, 5.0], [5.0, 5.0], [4.8, 4.8]]),  # not lower with twice the tokens
        np.array([[4.9, 4.9], [5.0, 5.0], [4.8, 4.8]]),
    ],
)
def test_a_baseline_that_tokens_do_not_help_tells_nothing(losses):
    rungs = Rungs.of(FACTORS, losses)
    assert not rungs.falls and math.isnan(gain(found(-0.1), rungs).low) and math.isnan(detectable_gain(0.1, rungs))


def test_seeds_and_rungs_that_are_missing():
    losses = np.array([[5.3, 5.31, np.nan], [5.0, 5.02, 5.01], [4.7, np.nan, np.nan]])
    rungs = Rungs.of(FACTORS, losses)
    assert [*np.exp(rungs.logs)] == [0.5, 1.0] and rungs.seeds == 2
    assert rungs.means == pytest.approx([5.305, 5.01])
    assert Rungs.of(FACTORS, np.where([[1], [0], [1]], losses, np.nan)) is None  # none at the rows' own budget
    assert Rungs.of(FACTORS[:1] * 2, losses[1:2]) is None
    assert math.isnan(gain(found(-0.1), None).low)


def test_a_row_without_an_interval_has_no_gain():
    assert math.isnan(gain(Comparison(2, -0.1), Rungs.of(FACTORS, LINE)).low)


def test_gains_in_another_unit():
    one = Gain(0.2, 0.1, 0.4).times(2.0)
    assert (one.log, one.low, one.high) == pytest.approx((0.2 + math.log(2), 0.1 + math.log(2), 0.4 + math.log(2)))
    wide = Gain(0.2, 0.1, 0.4).times(1.0, math.exp(-0.05), math.exp(0.03))
    assert (wide.low, wide.high) == pytest.approx((0.2 - math.hypot(0.1, 0.05), 0.2 + math.hypot(0.2, 0.03)))
    open_ = Gain(math.nan, 0.69, math.inf, 4.0).times(0.5)
    assert math.isnan(open_.log) and open_.low == pytest.approx(0.69 - math.log(2)) and open_.high == math.inf


def test_what_a_detectable_difference_is_worth():
    rungs = Rungs.of(FACTORS, LINE)
    assert detectable_gain(0.15, rungs) == pytest.approx(math.sqrt(2))
    assert detectable_gain(0.4, rungs) == math.inf


def test_the_single_row_is_the_paired_test():
    rng = np.random.default_rng(5)
    losses = rng.normal(size=(2, 5)) * 0.01 + [[5.0], [4.9]]
    one = compare(losses)[0]
    assert gain(one, Rungs.of(FACTORS, LINE)).log == pytest.approx(-one.delta / (0.3 / math.log(2)))


QUICK = [Case(gain=1.28, rows=4, seeds=5), Case("t(3)", 1.28, 0.013, 1, 5)]


@pytest.mark.parametrize("case", QUICK, ids=str)
def test_intervals_hold(case):
    repetitions = 150
    held = case.coverage(repetitions)
    assert held > 0.93 - 2 * standard_error(0.93, repetitions)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_intervals_hold(case):
    repetitions = 1000
    held = case.coverage(repetitions)
    if case.noise != "two-state":
        assert held > 0.93 - 2 * standard_error(0.93, repetitions)
