"""Durations as text."""

import pytest

from ablate.duration import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0, "0 s"),
        (48.4, "48 s"),
        (89, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (172_799, "48.0 h"),
        (172_800, "2.0 days"),
        (216_000, "2.5 days"),
    ],
)
def test_the_unit_grows_with_the_number(seconds, text):
    assert duration(seconds) == text
