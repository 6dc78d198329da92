"""The test of differences: what it equals, what it keeps, and what simulated truth says of it."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablate.statistics import moderated
from ablate.statistics.moderated import compare, detectable_effect, estimate_noise, holm, planned_effect

NAN = np.nan


def table(seed=0, rows=13, seeds=5, sd=0.01):
    noise = np.random.default_rng(seed)
    return 5 + noise.normal(0, 0.02, seeds) + noise.normal(0, 0.03, (rows, 1)) + noise.normal(0, sd, (rows, seeds))


def one_section(rows):
    return ["rows"] * (rows - 1)


def test_a_single_row_gets_the_paired_t_test():
    losses = table(rows=2)
    (row,) = compare(losses, ["rows"])
    expected = stats.ttest_rel(losses[1], losses[0])
    assert row.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (row.low, row.high) == (pytest.approx(low), pytest.approx(high))


def test_the_two_way_test_step_by_step():
    """The method written down once more, for a table without holes, its prior from an optimiser instead of Newton's."""
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    losses = table(rows=40, seeds=3, sd=0.01 * np.exp(np.random.default_rng(1).normal(0, 0.7, (40, 1))))
    rows, n = losses.shape
    centred = losses - losses.mean(1, keepdims=True)
    effect = np.array([np.median(np.delete(centred, row, 0), 0) for row in range(rows)])
    residual = centred - (effect - effect.mean(1, keepdims=True))
    own = (residual**2).sum(1) / (n - 1) / (1 + np.pi / 2 / (rows - 1 + 0.5))
    logs = np.log(own) - digamma((n - 1) / 2) + np.log((n - 1) / 2)
    spread = logs.var(ddof=1) - polygamma(1, (n - 1) / 2)
    prior = 2 * brentq(lambda y: polygamma(1, y) - spread, 1e-3, 1e6)
    scale = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    variance = np.maximum((prior * scale + (n - 1) * own) / (prior + n - 1), own)
    errors = np.sqrt((variance[1:] + variance[0]) / n)
    p = 2 * stats.t.sf(abs(losses[1:].mean(1) - losses[0].mean()) / errors, _welch(variance, prior + n - 1))
    assert [row.p for row in compare(losses, one_section(rows))] == pytest.approx(p, rel=1e-6)


def _welch(variance, degrees):
    return (variance[1:] + variance[0]) ** 2 / ((variance[1:] ** 2 + variance[0] ** 2) / degrees)


def test_what_does_not_matter():
    losses = table()
    before = compare(losses, one_section(13))
    shifted = compare(losses + np.arange(5) * 3.0, one_section(13))  # seeds that are easy or hard for all rows
    assert [row.p for row in shifted] == pytest.approx([row.p for row in before])
    scaled = compare(losses * 2, one_section(13))
    assert [row.delta for row in scaled] == pytest.approx([2 * row.delta for row in before])
    assert [row.p for row in scaled] == pytest.approx([row.p for row in before])
    order = np.r_[0, np.random.default_rng(0).permutation(np.arange(1, 13))]
    turned = compare(losses[order][:, ::-1], one_section(13))
    assert [row.p for row in turned] == pytest.approx([before[index - 1].p for index in order[1:]])


def test_a_variance_is_never_below_the_rows_own():
    losses = table(rows=20, seeds=3)
    losses[7] = 5 + np.array([0.0, 0.5, -0.5])  # wild
    noise = estimate_noise(losses)
    assert noise.variance[7] == pytest.approx(0.25, rel=0.2)
    assert np.delete(noise.variance, 7).max() < 0.01


@pytest.mark.parametrize("seed", range(20))
def test_an_interval_excludes_zero_exactly_where_a_row_differs(seed):
    losses = table(seed, sd=0.02)
    for row in compare(losses, ["a"] * 6 + ["b"] * 6):
        assert row.differs == (row.low > 0 or row.high < 0)
        assert row.low < row.delta < row.high
        assert row.p <= row.p_adjusted


def test_holm_is_holm_within_a_section_and_not_across():
    p = np.array([0.011, 0.02, 0.04, 0.3])
    adjusted, thresholds = holm(p)
    assert adjusted == pytest.approx([0.044, 0.06, 0.08, 0.3])
    assert thresholds == pytest.approx([0.05 / 4, 0.05 / 3, 0.05 / 3, 0.05 / 3])
    for seed in range(3):
        p = np.random.default_rng(seed).random(9) ** 4
        rejected, expected, _, _ = multipletests(p, alpha=0.05, method="holm")
        assert holm(p)[0] == pytest.approx(expected)
        assert ((holm(p)[0] <= 0.05) == rejected).all()
    losses = table(rows=5)
    together, apart = compare(losses, ["a"] * 4), compare(losses, ["a", "b", "c", "d"])
    assert [row.p for row in together] == [row.p for row in apart]
    assert all(row.p_adjusted == row.p for row in apart)


def test_below_three_shared_seeds_there_is_no_test():
    losses = table(rows=4)
    losses[1, 2:] = NAN
    losses[2, :] = NAN
    first, second, third = compare(losses, one_section(4))
    assert first.seeds == 2 and np.isnan(first.p) and not first.differs and np.isnan(first.detectable)
    assert first.delta == pytest.approx((losses[1] - losses[0])[:2].mean())
    assert second.seeds == 0 and np.isnan(second.delta)
    assert third.seeds == 5 and np.isfinite(third.p)


def test_a_missing_seed_is_left_out_of_the_pair_not_replaced():
    losses = table(rows=8)
    losses[3, 4] = NAN
    losses[:, 4] += np.where(np.arange(8) == 0, 0, 100.0)  # a seed that is hard for all but the baseline
    row = compare(losses, one_section(8))[2]
    assert row.seeds == 4
    assert abs(row.delta - (losses[3] - losses[0])[:4].mean()) < 0.01


def test_further_seeds_of_the_baseline_sharpen_its_mean_as_far_as_seeds_agree():
    for seed_sd, least, most in ((0.0, 0.80, 0.95), (10.0, 0.99, 1.0)):
        noise = np.random.default_rng(5)
        ratios = []
        for _ in range(30):
            losses = noise.normal(0, seed_sd, 9) + noise.normal(0, 0.01, (13, 9))
            losses[1:, 3:] = NAN
            short = losses.copy()
            short[0, 3:] = NAN
            more, less = compare(losses, one_section(13)), compare(short, one_section(13))
            ratios += [one.error / other.error for one, other in zip(more, less, strict=True)]
        assert least < np.mean(ratios) <= most
        assert max(ratios) <= 1 + 1e-9


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_tables_that_are_not_noisy_at_all(rows):
    same = np.full((rows, 3), 5.0)
    assert all(not row.differs and row.delta == 0 for row in compare(same, one_section(rows)))
    assert all(np.isnan(row.delta) for row in compare(np.full((rows, 3), NAN), one_section(rows)))
    exact = same + np.arange(rows)[:, None]
    assert all(np.isfinite(row.delta) for row in compare(exact, one_section(rows)))


def test_a_detectable_effect_is_found_four_times_out_of_five():
    for degrees, alpha in ((2, 0.05), (4, 0.05 / 12), (24, 0.01), (200, 0.05)):
        effect = detectable_effect(0.3, degrees, alpha)
        critical = stats.t.ppf(1 - alpha / 2, degrees)
        power = stats.nct.sf(critical, degrees, effect / 0.3) + stats.nct.cdf(-critical, degrees, effect / 0.3)
        assert power == pytest.approx(0.8, abs=2e-4)
    assert detectable_effect(0.0, 4) == 0
    assert np.isnan(detectable_effect(NAN, 4))


def test_what_a_plan_can_promise():
    assert np.isnan(planned_effect(0.01, rows=12, seeds=2))
    three, five = planned_effect(0.01, 12, 3), planned_effect(0.01, 12, 5)
    assert five < planned_effect(0.01, 12, 3, baseline_seeds=5) < three < planned_effect(0.01, 51, 2 + 1) * 1.2
    assert planned_effect(0.02, 12, 3) == pytest.approx(2 * three)


def simulate(kind, rows, seeds, repetitions, *, baseline_seeds=None, truth=True, missing=0.0):
    """(share of tables with a false alarm, share of true differences found): three rows differ by 4 of their own sd."""
    noise = np.random.default_rng([rows, seeds, repetitions])
    alarms, found, real = 0, 0.0, min(3, rows // 2) if truth else 0
    for _ in range(repetitions):
        sd = np.exp(noise.normal(0, 0.5, rows + 1)) if kind == "spread" else np.ones(rows + 1)
        order = noise.permutation(np.arange(1, rows + 1))
        if kind == "wild":
            sd[noise.permutation(np.arange(1, rows + 1))[: min(3, rows // 3)]] = 20
        differs = order[:real]
        mean = np.zeros(rows + 1)
        mean[differs] = 4 * sd[differs]
        shape = rows + 1, max(seeds, baseline_seeds or 0)
        losses = mean[:, None] + noise.normal(0, 1, shape[1]) + sd[:, None] * noise.normal(size=shape)
        losses[1:, seeds:] = NAN
        losses[1:][noise.random((rows, shape[1])) < missing] = NAN
        differ = np.array([row.differs for row in compare(losses, ["rows"] * rows)])
        null = np.ones(rows, bool)
        null[differs - 1] = False
        alarms += differ[null].any()
        found += differ[~null].mean() if real else 0
    return alarms / repetitions, found / repetitions


@pytest.mark.parametrize(
    "kind, rows, power", [("equal", 51, 0.98), ("spread", 51, 0.76), ("wild", 51, 0.89), ("wild", 12, 0.95)]
)
def test_false_alarms_and_power_with_five_seeds(kind, rows, power):
    alarms, found = simulate(kind, rows, 5, 250)
    assert alarms <= 0.08
    assert found >= power - 0.1


@pytest.mark.parametrize("rows", [1, 2, 4, 7])
def test_false_alarms_of_small_sweeps_where_nothing_differs(rows):
    assert simulate("equal", rows, 3, 400, truth=False)[0] <= 0.08


# What the method is to hold: kind, rows, seeds, false alarms at most, power at least.
FIGURES = [
    ("equal", 12, 3, 0.08, 0.70),
    ("equal", 51, 3, 0.05, 0.64),
    ("equal", 51, 5, 0.05, 0.88),
    ("spread", 12, 3, 0.10, 0.52),
    ("spread", 51, 3, 0.08, 0.36),
    ("spread", 51, 5, 0.08, 0.66),
    ("wild", 12, 3, 0.11, 0.39),
    ("wild", 51, 3, 0.08, 0.29),
    ("wild", 51, 5, 0.08, 0.79),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind, rows, seeds, most, least", FIGURES)
def test_the_whole_simulation(kind, rows, seeds, most, least):
    alarms, found = simulate(kind, rows, seeds, 1200)
    assert alarms <= most
    assert found >= least


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["equal", "spread", "wild"])
def test_the_simulation_with_unequal_seeds(kind):
    few = simulate(kind, 51, 3, 1200)
    more = simulate(kind, 51, 3, 1200, baseline_seeds=9)
    assert more[0] <= 0.1 and more[1] >= few[1]
    holes = simulate(kind, 12, 5, 1200, missing=0.1)
    assert holes[0] <= 0.09


def test_the_noise_floor_is_the_baselines_sd():
    assert moderated.noise_floor(np.array([1.0, 2.0, NAN, 3.0])) == pytest.approx(1.0)
    assert np.isnan(moderated.noise_floor(np.array([1.0, NAN])))
