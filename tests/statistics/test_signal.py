"""Signal to noise of a measure, against tables whose truth is known."""

import numpy as np
import pytest

from ablate.statistics.signal import signal_of


def made(rows=400, seeds=3, spread=2.0, noise=1.0, seed_effect=3.0, items=0.0):
    generator = np.random.default_rng(5)
    true = generator.normal(0, spread, rows) + generator.normal(0, items, rows)
    return 50.0 + true[:, None] + generator.normal(0, seed_effect, seeds) + generator.normal(0, noise, (rows, seeds))


def test_what_seeds_give_the_means_is_no_signal():
    found = signal_of(made(noise=3.0))
    assert found.spread == pytest.approx(2.0, rel=0.15)
    assert found.seed_noise == found.run_noise == pytest.approx(3.0, rel=0.1)  # without the effects of the seeds
    assert found.ratio == pytest.approx(found.spread / found.seed_noise) and found.rows == 400
    assert signal_of(made(noise=3.0, spread=0.0)).spread < 0.6  # the means alone have 1.7


def test_nor_is_what_the_items_give_them():
    values = made(items=1.5, noise=1.0)
    assert signal_of(values).spread == pytest.approx(2.5, rel=0.1)
    found = signal_of(values, item_noise=1.5)
    assert found.spread == pytest.approx(2.0, rel=0.1)
    assert found.run_noise == pytest.approx(np.hypot(1.0, 1.5), rel=0.1)


def test_missing_runs_do_not_bring_the_effects_of_the_seeds_back():
    values = made(seed_effect=30.0)
    values[1::2, 0] = np.nan
    assert signal_of(values).spread == pytest.approx(2.0, rel=0.2)


def test_the_baseline_is_one_row_among_the_others():
    values = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    assert signal_of(values).spread == pytest.approx(1.0)  # sd of 0, 1, 2
    assert np.isnan(signal_of(values).ratio)  # there is no noise


def test_a_row_that_repeats_another_does_not_count():
    values = np.array([[0.0, 0.1, 0.3], [1.0, 1.2, 1.1], [2.0, 2.3, 2.1], [2.0, 2.3, 2.1], [2.0, 2.3, 2.1]])
    found = signal_of(values, kept_out=np.array([False, False, False, True, True]))
    assert found.rows == 3 and found.spread == pytest.approx(signal_of(values[:3]).spread)


def test_too_few_rows_have_no_signal_but_noise():
    two = signal_of(np.array([[1.0, 2.0, 3.0], [2.0, 3.5, 4.0]]))
    assert (two.rows, np.isnan(two.spread), np.isnan(two.ratio)) == (2, True, True) and two.seed_noise > 0
    one = signal_of(np.array([[1.0, 2.0, 3.0]]))
    assert one.seed_noise == pytest.approx(1.0)
    assert np.isnan(signal_of(np.array([[1.0], [2.0], [3.0]])).spread)
    assert np.isnan(signal_of(np.full((3, 3), np.nan)).seed_noise)
    assert np.isnan(signal_of(np.array([[np.nan] * 3, [1.0, 2.0, 3.0], [2.0, 3.0, 4.5], [5.0, 6.0, 7.0]])).spread)
