"""Results of several threads come in order, few items are taken ahead, and nothing goes on behind an error."""

import threading
import time

import pytest

from ablate.data.in_order import in_order


def test_results_are_in_the_order_of_the_items():
    def late(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(in_order(late, range(30), 4, size=lambda _: 1, ahead=8)) == list(range(30))


@pytest.mark.parametrize(("size", "most"), [(1, 5), (2, 3), (100, 1)])
def test_items_are_taken_ahead_only_up_to_their_size(size, most):
    taken, at_most = [], 0
    for number in in_order(
        lambda item: item, (taken.append(i) or i for i in range(20)), 2, size=lambda _: size, ahead=5
    ):
        at_most = max(at_most, len(taken) - number)
    assert at_most == most


def test_an_error_is_that_of_the_first_item_and_ends_the_work():
    begun = []

    def fails(number):
        begun.append(number)
        time.sleep(0.02 if number == 1 else 0)
        if number in (1, 2):
            raise ValueError(number)
        return number

    found = []
    with pytest.raises(ValueError, match="^1$"):
        found.extend(in_order(fails, range(10**6), 2, size=lambda _: 1, ahead=4))
    assert len(begun) < 10
    before = len(begun)
    time.sleep(0.05)
    assert len(begun) == before


def test_whoever_goes_away_leaves_no_thread_behind():
    results = in_order(lambda item: item, range(100), 3, size=lambda _: 1, ahead=10)
    assert next(results) == 0
    results.close()
    assert not [t for t in threading.enumerate() if "ThreadPool" in t.name]
