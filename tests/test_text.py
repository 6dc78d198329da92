"""Values and tables as plain text."""

import pytest

from ablate.text import aligned, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1e-06, "1e-06"),
        (3, "3"),
        ("gelu", "gelu"),
        ("", "''"),
        ([1, None], "[1, null]"),
        ({"torch": "2.13"}, '{"torch": "2.13"}'),
    ],
)
def test_values_are_shown_as_they_are_typed(value, text):
    assert shown(value) == text


def test_columns_are_straight():
    lines = [("row", "n", ""), ("a long one", "12", "last"), ("b", "3", "")]
    assert aligned(lines, right=[1]) == ["row          n", "a long one  12  last", "b            3"]
    assert aligned([["a", "b"]], gap=" ") == ["a b"] and aligned([]) == []
