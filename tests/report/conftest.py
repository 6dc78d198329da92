"""A small sweep, judged once for all tests that only read it."""

from __future__ import annotations

import pytest

from ablate.report.analysis import gathering
from ablate.report.analysis.judge import judge
from tests.report.scored import usual
from tests.report.synthetic import small_sweep


@pytest.fixture(scope="session")
def small_results(tmp_path_factory):
    """The runs of a small sweep."""
    maker = small_sweep(tmp_path_factory.mktemp("small"))
    return gathering.collect(maker.name, maker.runs, maker.sweeps)


@pytest.fixture(scope="session")
def plain(small_results):
    """What is said of its rows; they have no scores."""
    return judge(small_results)


@pytest.fixture(scope="session")
def scored(plain):
    """The same rows with made-up scores of every kind."""
    return usual(plain)
