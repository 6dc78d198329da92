"""The noise of items: by hand, against the mean squares of a two-way layout, and in simulated tables."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from ablate.statistics import item_noise
from ablate.statistics.comparison import ALPHA, compare
from ablate.statistics.item_noise import ItemNoise
from ablate.statistics.mean_interval import mean_interval
from tests.statistics import item_simulation
from tests.statistics.item_simulation import LARGE, NONE, Case, rates
from tests.statistics.simulation import standard_error
from tests.statistics.test_comparison import table

NAN = np.nan


def test_a_two_way_layout_by_hand():
    """Means of items 1, 0, 0.5, 0.5; of seeds 0.75, 0.25; residuals all of size 0.25, their mean square 8/16 / 3."""
    found = item_noise.of_values(np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]))
    assert found.alone == pytest.approx((0.25 + 0.25) / 3 / 4)
    assert found.added == pytest.approx((0.25 + 0.25) / 3 / 4 - 8 / 16 / 3 / 8)


@pytest.mark.parametrize("shape", [(2, 7), (3, 50), (5, 11)])
def test_the_whole_variance_is_that_of_a_two_way_random_layout(shape):
    """Searle et al.: var(mean) = (MS of seeds + MS of items - MS of residuals) / (S N), from sums of squares."""
    seeds, items = shape
    rng = np.random.default_rng(seeds)
    x = rng.normal(size=shape) + rng.normal(size=(seeds, 1)) + 2 * rng.normal(size=(1, items))
    total = sum(value**2 for row in x for value in row)
    correction = sum(value for row in x for value in row) ** 2 / (seeds * items)
    of_seeds = sum(sum(row) ** 2 for row in x) / items - correction
    of_items = sum(sum(column) ** 2 for column in x.T) / seeds - correction
    left = total - correction - of_seeds - of_items
    mean_squares = of_seeds / (seeds - 1) + of_items / (items - 1) - left / (seeds - 1) / (items - 1)
    found = item_noise.of_values(x)
    assert np.var(x.mean(1), ddof=1) / seeds + found.added == pytest.approx(mean_squares / (seeds * items))
    assert found.alone == pytest.approx(of_items / (items - 1) / (seeds * items))


def test_components_of_known_size_are_found():
    rng = np.random.default_rng(0)
    found = [
        item_noise.of_values(
            rng.normal(size=(4, 1)) + 0.5 * rng.normal(size=(1, 40)) + 2 * rng.normal(size=(4, 40))
        ).added
        for _ in range(3000)
    ]
    assert np.mean(found) == pytest.approx(0.25 / 40, rel=0.35)  # a little above: negative estimates count as none
    alone = [item_noise.of_values(3 * rng.normal(size=(1, 40))).alone for _ in range(3000)]
    assert np.mean(alone) == pytest.approx(9 / 40, rel=0.05)


def test_what_one_seed_and_one_item_say():
    values = np.array([[1.0, 0.0, 1.0, 1.0]])
    variance = np.var(values[0], ddof=1) / 4
    assert item_noise.of_values(values) == ItemNoise(variance, variance)
    assert item_noise.of_values(np.array([[1.0], [0.0]])) is None
    assert item_noise.of_values(np.ones((3, 9))) == ItemNoise(0.0, 0.0)


def test_no_less_than_nothing_is_added():
    """The same share right in every seed, but of other items each time: all of it is residual."""
    found = item_noise.of_values(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert found.added == 0.0 and found.alone == 0.0
    assert item_noise.of_values(np.random.default_rng(1).normal(size=(2, 4))).added >= 0.0
    # one item of 50 changes in one seed: what items allow is residual, to the last digit but one
    for seeds in (3, 5, 7):
        values = np.zeros((seeds, 50))
        values[0, 7] = 0.1
        found = item_noise.of_values(values)
        assert found.added == 0.0 < found.alone


def test_standard_errors_and_averages():
    assert item_noise.of_standard_errors([3.0, 4.0]) == ItemNoise(12.5, 12.5)
    assert ItemNoise(1.0, 2.0) + ItemNoise(3.0, 5.0) == ItemNoise(4.0, 7.0)
    assert item_noise.of_average([ItemNoise(1.0, 2.0), ItemNoise(3.0, 6.0)]) == ItemNoise(1.0, 2.0)
    rng = np.random.default_rng(0)
    tasks = [rng.normal(size=(5000, 1, 20)), 3 * rng.normal(size=(5000, 1, 80))]  # of many tables, one seed
    spread = np.var(np.mean([task.mean((1, 2)) for task in tasks], 0))
    known = item_noise.of_average([item_noise.of_values(task[0]) for task in tasks])
    assert known.alone == pytest.approx(spread, rel=0.35)


def test_what_items_add_widens_the_whole_comparison():
    losses = table(rows=6)
    without = compare(losses)
    assert all(np.isnan(row.item_error) for row in without)
    added = np.array([0.0, 0.001, 0.01, 0.1, NAN])
    for row, plain, error in zip(compare(losses, item_error=added), without, added, strict=True):
        error = np.nan_to_num(error)
        wider = np.hypot(plain.error, error) / plain.error
        assert row.error == plain.error and row.delta == plain.delta
        assert np.nan_to_num(row.item_error) == error
        assert row.detectable == pytest.approx(wider * plain.detectable)
        assert row.high - row.low == pytest.approx(wider * (plain.high - plain.low), rel=1e-3)
        assert row.p >= plain.p * (1 - 1e-9)
    with_zero = compare(losses, item_error=np.zeros(5))
    numbers = ("low", "high", "p", "p_adjusted", "detectable")
    assert [[getattr(row, key) for key in numbers] for row in with_zero] == [
        [getattr(row, key) for key in numbers] for row in without
    ]


def test_a_test_with_items_is_that_of_smaller_differences():
    losses = table(rows=6)
    errors = np.array([row.error for row in compare(losses)])
    twice = compare(losses, item_error=errors * np.sqrt(3))  # the whole error is twice that of seeds
    half = losses.copy()
    half[1:] -= (losses[1:] - losses[0]).mean(1, keepdims=True) / 2
    for key in ("p", "p_adjusted"):
        found, expected = ([getattr(row, key) for row in rows] for rows in (twice, compare(half)))
        assert found == pytest.approx(expected, rel=1e-6)


def test_each_row_has_items_of_its_own_where_all_share_the_noise_of_a_control():
    """The error of a noisy baseline is in all rows, and costs a quantile once; that of items does not. Eight seeds."""
    rng = np.random.default_rng(2)
    losses = 5 + 0.01 * rng.normal(size=(51, 8))
    losses[0] += rng.normal(size=8)
    of_normal = stats.norm.isf(ALPHA / 50 / 2)
    seeds, items = compare(losses), compare(losses, item_error=np.full(50, 20.0))
    assert all(row.high - row.low < 2 * of_normal * row.error for row in seeds)
    assert [row.high - row.low for row in items] == pytest.approx([2 * of_normal * 20.0] * 50, rel=0.01)
    assert all(row.differs == (row.low > 0 or row.high < 0) for row in items)


def test_an_interval_excludes_zero_exactly_where_a_row_differs_by_seeds_and_items():
    differing = 0
    for seed in range(8):
        for row in compare(table(seed, sd=0.012), item_error=np.full(12, 0.005), least_error=np.full(12, 0.006)):
            assert row.differs == (row.low > 0 or row.high < 0)
            assert row.low < row.delta < row.high and row.p <= row.p_adjusted
            differing += row.differs
    assert differing > 10


def test_the_whole_error_is_no_less_than_the_items_allow():
    for rows in (2, 6):  # the paired t test, and the joint one
        (row, *_) = compare(table(rows=rows), item_error=np.zeros(rows - 1), least_error=np.full(rows - 1, 0.5))
        assert np.hypot(row.error, row.item_error) == pytest.approx(0.5)
        assert row.high - row.low > 2 * 0.5


def test_one_row_with_items_gets_the_paired_t_test_of_the_whole_error():
    losses = table(rows=2)
    (plain,) = compare(losses)
    (row,) = compare(losses, item_error=np.array([plain.error]))
    assert row.p == pytest.approx(2 * stats.t.sf(abs(row.delta) / (plain.error * np.sqrt(2)), 4))
    assert row.detectable == pytest.approx(np.sqrt(2) * plain.detectable)


def test_without_any_noise_of_seeds_the_items_alone_decide():
    scores = np.full((3, 3), 50.0) + np.array([[0.0], [2.5], [1.0]])
    found = compare(scores, item_error=np.array([1.0, 1.0]), least_error=np.array([1.0, 1.0]))
    assert [row.p for row in found] == pytest.approx([2 * stats.norm.sf(2.5), 2 * stats.norm.sf(1.0)], rel=1e-6)
    assert [row.p_adjusted for row in found] == pytest.approx([2 * row.p for row in found])
    assert found[0].differs and not found[1].differs
    assert found[0].high - found[0].delta == pytest.approx(stats.norm.isf(ALPHA / 4), rel=1e-6)
    assert found[0].detectable == pytest.approx(stats.norm.isf(ALPHA / 4) + stats.norm.ppf(0.8), rel=1e-3)


def test_a_smaller_alpha_finds_less():
    losses = table(rows=6, sd=0.02)
    usual, strict = compare(losses), compare(losses, alpha=ALPHA / 10)
    assert all(row.high - row.low > 1.2 * (other.high - other.low) for row, other in zip(strict, usual, strict=True))
    assert all(row.differs == (row.p_adjusted <= ALPHA / 10) == (row.low > 0 or row.high < 0) for row in strict)


def test_what_a_mean_is_known_to_within():
    values = np.array([50.0, 52.0, NAN, 54.0])
    known = values[~np.isnan(values)]
    expected = stats.t.interval(0.95, 2, known.mean(), stats.sem(known))
    assert mean_interval(values, None) == pytest.approx(expected)
    assert mean_interval(values, ItemNoise(0.0, 0.0)) == pytest.approx(expected)
    of_seeds, of_items = stats.sem(known) ** 2, 3.0
    degrees = (of_seeds + of_items) ** 2 / (of_seeds**2 / 2)
    wider = stats.t.interval(0.95, degrees, known.mean(), np.sqrt(of_seeds + of_items))
    assert mean_interval(values, ItemNoise(of_items, of_items)) == pytest.approx(wider)
    assert mean_interval(known[:1], ItemNoise(1.0, 4.0)) == pytest.approx(stats.norm.interval(0.95, 50.0, 2.0))
    assert mean_interval(np.full(3, 50.0), ItemNoise(1.0, 4.0)) == pytest.approx(stats.norm.interval(0.95, 50.0, 2.0))
    assert mean_interval(np.zeros(3), None) == (0.0, 0.0)
    assert all(np.isnan(mean_interval(known[:1], None))) and all(np.isnan(mean_interval(values[2:3], None)))


# Simulated tables of scores. Without the part of items the test would be wrong nearly always where they are noisy.


def assert_held(case, repetitions, bound=0.06):
    alarms, without, found = rates(case, repetitions)
    assert alarms <= bound + 2.5 * standard_error(bound, repetitions), f"{case}: {alarms:.3f}"
    return without, found


def test_false_alarms_with_few_items():
    without, found = assert_held(Case(8, 5, 50, LARGE, 0.02), 25)
    assert without > 0.8 and found > 0.5
    without, found = assert_held(Case(8, 5, 200, NONE, 0.1), 25)
    assert without < 0.2 and found > 0.5


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", item_simulation.CASES, ids=str)
def test_all_false_alarms_with_items(case):
    without, found = assert_held(case, 150)
    if case.item == LARGE and case.baseline_run == 1:
        assert without > 0.5
    if not case.shares and case.alpha == ALPHA and case.baseline_run == 1:
        plain = dataclasses.replace(case, item=NONE, residual=0.0)  # seeds are all the noise there is
        assert found > rates(plain, 50)[2] - 0.15
