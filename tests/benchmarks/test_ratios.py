"""The statistics of the ratios, and what is demanded of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.contestants import floors, ratios, roster


def test_a_round_that_is_slow_for_both_changes_nothing():
    seconds = np.linspace(1, 2, 61)
    busy = np.where(np.arange(61) % 3 == 0, 5.0, 1.0)
    assert ratios.speed(seconds * busy, 1.1 * seconds * busy).to_json() == pytest.approx([1.1, 1.1, 1.1])


def test_above_one_where_ours_is_faster():
    assert ratios.speed([1.0] * 5, [2.0] * 5).median == 2.0


def test_the_interval_covers_the_true_ratio_as_often_as_it_says():
    draw = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        found = ratios.speed(np.exp(draw.normal(0, 0.05, 60)), np.exp(draw.normal(0.1, 0.05, 60)))
        covered += found.low <= math.exp(0.1) <= found.high
    assert 180 <= covered <= 199


def test_the_same_times_give_the_same_interval():
    ours, theirs = np.random.default_rng(0).uniform(1, 2, (2, 60))
    assert ratios.speed(ours, theirs) == ratios.speed(ours, theirs)


@pytest.mark.parametrize("ours, theirs", [([1.0], [1.0, 2.0]), ([], [])])
def test_a_ratio_is_of_the_same_rounds(ours, theirs):
    with pytest.raises(ValueError, match="the same rounds"):
        ratios.speed(ours, theirs)


def result(name, speed, peak, same_work=True):
    return {"name": name, "our_speed": [speed, speed, speed], "peak_mib": peak, "same_work": same_work}


def test_floors_are_those_of_the_best_peer_that_does_the_same_work():
    results = [
        result(roster.OURS, 1.0, 105),
        result("slow", 1.3, 100),
        result("fast", 0.98, 110),
        result("other", 0.5, 50, same_work=False),
    ]
    assert list(floors.missed({"llama": {"eager": results}})) == [
        "llama, eager: 0.98 of the speed of fast (floor 1.00)",
        "llama: 1.05 of the peak memory of slow (at most 1.00)",
    ]
    assert list(floors.missed({"llama": {"compiled": results}})) == [
        "llama, compiled: 0.98 of the speed of fast (floor 1.00)"
    ]


def test_t5_has_a_floor_of_its_own():
    results = [result(roster.OURS, 1.0, 100), result("peer", 1.04, 100)]
    assert list(floors.missed({"t5": {"eager": results}})) == ["t5, eager: 1.04 of the speed of peer (floor 1.05)"]
    assert list(floors.missed({"t5": {"compiled": results}})) == []


def test_without_a_peer_nothing_is_demanded():
    assert list(floors.missed({"gpt2": {"eager": [result(roster.OURS, 1.0, 100)]}})) == []
