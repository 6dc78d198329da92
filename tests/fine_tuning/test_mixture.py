"""The order of examples: in proportion, each once an epoch, a pure function of the step."""

from collections import Counter

import numpy as np

from ablate.fine_tuning.encoding import Encoded
from ablate.fine_tuning.mixture import Draw, Mixture, pairs


def epoch(mixture, number):
    return [mixture.at(number * mixture.epoch_size + place) for place in range(mixture.epoch_size)]


def test_each_example_once_an_epoch_in_another_order():
    mixture = Mixture({"a": 5, "b": 20}, None, seed=1)
    first, second = epoch(mixture, 0), epoch(mixture, 1)
    for drawn in (first, second):
        assert Counter(one.task for one in drawn) == {"a": 5, "b": 20}
        assert {one.index for one in drawn if one.task == "b"} == set(range(20))
    assert [one.index for one in first] != [one.index for one in second]
    assert {one.epoch for one in first} == {0} and {one.epoch for one in second} == {1}


def test_a_cap_takes_so_many_and_goes_on_in_the_next_epoch():
    mixture = Mixture({"a": 4, "b": 10}, 4, seed=1)
    drawn = [epoch(mixture, number) for number in range(5)]
    assert all(Counter(one.task for one in part) == {"a": 4, "b": 4} for part in drawn)
    of_b = [(one.epoch, one.index) for part in drawn for one in part if one.task == "b"]
    assert Counter(epoch for epoch, _ in of_b) == {0: 10, 1: 10}
    assert {index for number, index in of_b if number == 0} == set(range(10))


def test_a_step_is_a_function_of_its_number():
    one, other = (Mixture({"a": 7, "b": 9}, None, seed=3) for _ in range(2))
    assert one.step(11, 4) == other.step(11, 4) != Mixture({"a": 7, "b": 9}, None, seed=4).step(11, 4)
    assert one.step(0, 8) == one.step(0, 4) + one.step(1, 4)


def test_of_several_answers_each_epoch_has_another():
    ids = [np.array([number]) for number in range(3)]
    examples = {"a": [Encoded(ids[0], (ids[1], ids[2]))]}
    found = pairs([Draw("a", 0, epoch) for epoch in range(3)], examples)
    assert [answer.item() for _, answer in found] == [1, 2, 1]
