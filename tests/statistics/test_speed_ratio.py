"""The ratio of two speeds: its formula, and how often its interval holds the truth in simulated timing passes."""

import math

import numpy as np
import pytest
from scipy import stats

from ablate.statistics.speed_ratio import CONFIDENCE, FEWEST_ROUNDS, NOMINAL, speed_ratio


def test_it_is_the_t_interval_of_the_log_ratios():
    speeds, base = [9.0, 9.4, 8.7, 9.1, 9.3, 50.0], [10.0, 10.1, 9.9, 10.2, 10.0]
    logs = np.log(np.array(speeds[:5]) / base)  # the round that only one side has is left out
    low, high = stats.t.interval(NOMINAL, 4, logs.mean(), stats.sem(logs))
    found = speed_ratio(speeds, base)
    assert (found.ratio, found.low, found.high) == pytest.approx(tuple(np.exp([logs.mean(), low, high])))
    assert found.rounds == 5 and found.differs
    other = speed_ratio(base, speeds)
    assert (other.low, other.high) == pytest.approx((1 / found.high, 1 / found.low))


def test_what_slows_a_whole_round_down_does_not_matter():
    machine = [1.0, 0.5, 0.8, 1.1, 0.6]
    found = speed_ratio([8 * factor for factor in machine], [10 * factor for factor in machine])
    assert (found.low, found.high) == pytest.approx((0.8, 0.8)) and found.is_narrow


def test_few_rounds_have_no_interval():
    for rounds in range(1, FEWEST_ROUNDS):
        found = speed_ratio([2.0] * rounds, [1.0] * rounds)
        assert found.ratio == pytest.approx(2.0) and math.isnan(found.low)
        assert not found.differs and not found.is_narrow
        assert found.rounds == rounds
    nothing = speed_ratio([], [1.0])
    assert math.isnan(nothing.ratio) and nothing.rounds == 0


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.02])
def test_the_interval_holds_though_measuring_stops_when_it_is_narrow(noise):
    rng, passes, held, ended = np.random.default_rng(0), 1500, 0, []
    for _ in range(passes):
        drift = np.cumsum(rng.normal(0, 0.05, 60))  # of the machine, in every round's speeds
        base, row = np.exp(drift), 0.9 * np.exp(drift + rng.normal(0, noise, 60))
        rounds = FEWEST_ROUNDS
        while not (found := speed_ratio(row[:rounds], base[:rounds])).is_narrow and rounds < 60:
            rounds += 1
        held += found.low <= 0.9 <= found.high
        ended.append(rounds)
    assert held / passes >= CONFIDENCE - 2 * math.sqrt(0.05 * 0.95 / passes)
    assert np.mean(ended) < 15
