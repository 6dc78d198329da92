"""Forecasts of a next size: what they say of ladders that are known, and how often their intervals hold."""

import math

import numpy as np
import pytest

from ablate.statistics.ladder import Ladder, Noise, trend
from tests.statistics.forecast_simulation import CASES, ForecastCase
from tests.statistics.simulation import standard_error

X = np.log([1.0, 4.0, 16.0])


def test_a_straight_ladder_is_continued_and_one_that_levels_off_is_not():
    errors = np.full(3, 1e-4)
    straight = trend(np.array([4.0, 3.8, 3.6]), errors, X, math.log(64))
    assert straight.mean[0] == pytest.approx(3.4, abs=0.01) and straight.low[0] < straight.mean[0] < straight.high[0]
    bent = trend(np.array([4.0, 3.8, 3.7]), errors, X, math.log(64))
    assert bent.mean[0] == pytest.approx(3.65, abs=0.01)


def test_two_sizes_leave_open_how_soon_a_loss_levels_off():
    found = trend(np.array([4.0, 3.8]), np.full(2, 1e-4), X[:2], X[2])
    assert 3.6 - 0.001 < found.low[0] < found.mean[0] < found.high[0] < 3.7 + 0.001
    assert found.high[0] - found.low[0] > 0.08
    noisy = trend(np.array([4.0, 3.8]), np.full(2, 0.02), X[:2], X[2], 0.02)
    fewer = trend(np.array([4.0, 3.8]), np.full(2, 0.02), X[:2], X[2], 0.02, degrees=4)
    assert fewer.high[0] - fewer.low[0] > noisy.high[0] - noisy.low[0] > found.high[0] - found.low[0]
    with pytest.raises(ValueError, match="needs 2 sizes"):
        trend(np.array([4.0]), np.array([0.1]), X[:1], X[2])


def test_noise_is_pooled_over_sizes_and_rows():
    own = np.array([[0.01, 0.01], [0.03, np.nan], [np.nan, np.nan]])
    found = Noise.pooled(own, np.array([0.006, 0.008]), np.array([[4, 4], [4, 1], [1, 1]]))
    together = (0.01**2 * 2 + 0.03**2) / 3
    assert found.errors[0] == pytest.approx(np.sqrt((0.01**2 + together) / 2))
    assert found.errors[1, 0] == pytest.approx(np.sqrt((0.03**2 + together) / 2))
    assert np.isnan(found.errors[1, 1]) and np.isnan(found.errors[2]).all()
    assert found.control == pytest.approx(np.sqrt([5e-5, 5e-5])) and found.degrees == 4 * 4.5


def test_degrees_of_freedom_widen_the_intervals():
    ladder = Ladder(np.array([[0.1, 0.11], [0.0, 0.01]]), np.full((2, 2), 0.01), np.full(2, 0.005), X[:2])
    few, many = (ladder.predict(X[2], degrees=degrees) for degrees in (4, math.inf))
    assert (few.high - few.low > many.high - many.low).all() and few.mean == pytest.approx(many.mean)


@pytest.mark.parametrize("case", [ForecastCase(), ForecastCase("t(3)", sizes=3)], ids=str)
def test_intervals_hold(case):
    held, of_baseline, mixed, last, mean = case.scored(40)
    # rows of one ladder share their control and their slopes' sd: 40 ladders tell about as much as 160 rows
    assert 0.93 - 2 * standard_error(0.95, 160) < held < 0.99
    assert of_baseline > 0.95 - 3 * standard_error(0.95, 40)
    assert mixed < last and mixed < mean


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", [case for case in CASES if case.noise != "two-state"], ids=str)
def test_all_intervals_hold(case):
    repetitions = 400
    held, of_baseline, *_ = case.scored(repetitions)
    assert 0.93 - standard_error(0.95, repetitions) < held < 0.97 + standard_error(0.95, repetitions)
    assert 0.93 - standard_error(0.95, repetitions) < of_baseline < 0.99
