"""sweeps/axes.yaml, the first sweep that a newcomer runs: what it has to ask for its report to be worth reading."""

from __future__ import annotations

import re

import pytest

from ablate import packaged
from ablate.study import definition

YEAR = re.compile(r"\b(19|20)\d\d\b")


@pytest.fixture(scope="module")
def sweep():
    return definition.load("axes", packaged.sweeps())


def changes(sweep):
    return {label: words for label, words in sweep.rows.items() if words and not label.startswith("A/A")}


def test_it_has_ten_changes_on_five_axes(sweep):
    keys = {word.partition("=")[0].partition(".")[0] for words in changes(sweep).values() for word in words}
    assert len(changes(sweep)) >= 10 and len(keys) >= 5
    assert {"RMS Norm", "SwiGLU"} <= set(sweep.rows)


def test_one_row_changes_nothing_but_the_initial_values(sweep):
    (words,) = (words for label, words in sweep.rows.items() if label.startswith("A/A"))
    assert [word.partition("=")[0] for word in words] == ["seed.init"]


def test_each_change_says_what_to_expect_and_by_whom(sweep):
    assert set(sweep.expected) == set(changes(sweep))
    assert [label for label, (_, source) in sweep.expected.items() if not YEAR.search(source)] == []


def test_it_has_seeds_enough_for_verdicts_and_a_margin_for_equal_rows(sweep):
    assert min(sweep.seeds.baseline, sweep.seeds.rows) >= 5 and sweep.same_within == 0.02
