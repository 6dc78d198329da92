"""The order of windows: every one once an epoch, another order for another seed or epoch."""

from collections import Counter

import numpy as np
import pytest

from ablate.data.permutation import permute


@pytest.mark.parametrize("n", [*range(1, 40), 99, 100, 101, 1023, 1024, 1025, 50_000])
def test_every_place_has_another_window(n):
    for seed, epoch in ((0, 0), (0, 1), (7, 0)):
        assert sorted(permute(np.arange(n), n, seed, epoch)) == list(range(n))


def test_places_can_be_computed_in_any_order():
    whole = permute(np.arange(1000), 1000, 3, 2)
    assert (permute(np.arange(500, 600), 1000, 3, 2) == whole[500:600]).all()
    assert permute(np.array([999]), 1000, 3, 2) == whole[999]


def test_orders_differ_by_seed_and_epoch():
    permutations = {tuple(permute(np.arange(50), 50, seed, epoch)) for seed in range(20) for epoch in range(20)}
    assert len(permutations) == 400


def test_orders_look_random():
    n = 20_000
    order = permute(np.arange(n), n, 1, 0)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.03
    small = Counter(tuple(permute(np.arange(4), 4, seed, 0)) for seed in range(4800))
    assert len(small) == 24 and min(small.values()) > 130 and max(small.values()) < 270


def test_these_orders_stay():
    """A change here is another order for everyone."""
    assert list(permute(np.arange(10), 10, 0, 0)) == ORDER
    assert list(permute(np.arange(3), 10**12, 5, 1)) == FAR


ORDER = [2, 3, 0, 5, 9, 8, 1, 7, 6, 4]
FAR = [359585805409, 401032453433, 995230824825]
