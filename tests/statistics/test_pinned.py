"""Comparisons of made-up tables against stored ones, number by number: holes, ties, no noise, further seeds."""

import json

import pytest

from tests.statistics.pinned import FILE, made

STORED = json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def now():
    return json.loads(json.dumps(made()))


@pytest.mark.parametrize("name", STORED)
def test_numbers_are_the_stored_ones(name, now):
    close(now[name], STORED[name], name)


def test_nothing_is_left_out(now):
    assert list(now) == list(STORED)


def close(ours, stored, where):
    """Equal in kind and order, numbers to seven digits."""
    if isinstance(stored, dict):
        assert list(ours) == list(stored), where
        for key in stored:
            close(ours[key], stored[key], f"{where}: {key}")
    elif isinstance(stored, list):
        assert len(ours) == len(stored), where
        for index, (one, other) in enumerate(zip(ours, stored, strict=True)):
            close(one, other, f"{where}[{index}]")
    elif isinstance(stored, float):
        assert ours == pytest.approx(stored, rel=1e-7, abs=1e-12), where
    else:
        assert ours == stored, where
