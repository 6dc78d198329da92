"""The noise that is left of a table without the effects of rows and seeds."""

import numpy as np
import pytest

from ablate.statistics.noise import noise_floor, typical_noise
from ablate.statistics.residuals import residuals

NAN = np.nan


def table(seed=0, rows=13, seeds=5, sd=0.01):
    noise = np.random.default_rng(seed)
    return 5 + noise.normal(0, 0.02, seeds) + noise.normal(0, 0.03, (rows, 1)) + noise.normal(0, sd, (rows, seeds))


@pytest.mark.parametrize("rows", [7, 8])
def test_a_residual_is_taken_from_the_median_of_the_other_rows(rows):
    losses = table(rows=rows)
    centred = losses - losses.mean(1, keepdims=True)
    left = np.array([centred[row] - np.median(np.delete(centred, row, 0), 0) for row in range(rows)])
    left -= left.mean(1, keepdims=True)
    found = residuals(losses)
    ratio = left / found.values
    assert ratio == pytest.approx(np.full_like(ratio, ratio[0, 0]))  # scaled, all alike
    assert found.variance == pytest.approx((found.values**2).sum(1) / 4)
    assert (found.degrees == 4).all()


@pytest.mark.parametrize("rows, missing", [(3, 0.0), (12, 0.0), (40, 0.0), (12, 0.15)])
def test_the_variance_is_right_on_average(rows, missing):
    noise, variances = np.random.default_rng(1), []
    for seed in range(300):
        losses = table(seed, rows=rows, sd=1.0)
        losses[noise.random(losses.shape) < missing] = NAN
        variances += list(residuals(losses).variance)
    assert np.nanmean(variances) == pytest.approx(1.0, abs=0.08)


def test_runs_alone_with_their_seed_have_no_residual():
    losses = table(rows=6)
    losses[1:, 3:] = NAN
    found = residuals(losses)
    assert list(found.is_shared) == [True, True, True, False, False]
    assert np.isnan(found.values[:, 3:]).all() and (found.degrees == 2).all()


def test_a_row_with_a_single_run_shows_no_effect_of_a_seed():
    losses = table(rows=7)
    alone = np.full((1, 5), NAN)
    alone[0, 2] = 6.3
    found, without = residuals(np.vstack([losses, alone])), residuals(losses)
    assert found.values[:7] == pytest.approx(without.values) and found.seed_variance == without.seed_variance
    assert np.isnan(found.values[7]).all() and found.degrees[7] == 0
    losses[1:, 2] = NAN  # nor does a seed that one row ran beside it
    assert not residuals(np.vstack([losses, alone])).is_shared[2]


def test_a_row_that_is_kept_out_changes_nothing_for_the_others():
    losses = table(rows=9)
    losses[4] = losses[0]
    out = np.arange(9) == 4
    without = residuals(np.delete(losses, 4, 0))
    found = residuals(losses, out)
    assert np.delete(found.variance, 4) == pytest.approx(without.variance)
    assert found.variance[4] > 0 and found.seed_variance == pytest.approx(without.seed_variance)


def test_the_noise_floor_is_the_baselines_sd():
    assert noise_floor(np.array([1.0, 2.0, NAN, 3.0])) == pytest.approx(1.0)
    assert np.isnan(noise_floor(np.array([1.0, NAN])))


def test_typical_noise_is_that_of_an_ordinary_row():
    losses = table(rows=40)
    losses[7] = 5 + np.array([0.0, 0.5, -0.5, 0.2, 0.1])
    assert typical_noise(losses) == pytest.approx(0.01, rel=0.15)
    assert typical_noise(table(rows=100, seeds=2)) == pytest.approx(0.01, rel=0.2)
    assert typical_noise(losses * 3) == pytest.approx(3 * typical_noise(losses))
    assert np.isnan(typical_noise(losses[:1])) and typical_noise(np.ones((4, 3))) == 0
