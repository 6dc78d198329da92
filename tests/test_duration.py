"""Durations as text."""

import pytest

from ablate.duration import duration, seconds_of


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45min", 2700), ("45m", 2700), ("2h", 7200), ("1h30min", 5400), ("1.5d", 129600), ("0.5h", 1800)],
)
def test_what_one_types(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-2h", "2x", "0h", "1.2.3h", "2h3", "nan", "infh"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError):
        seconds_of(text)
