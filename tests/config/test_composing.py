"""Our own composing of groups gives what Hydra gives."""

from __future__ import annotations

import itertools

import pytest

from ablate.config import options
from ablate.config.composing import by_hydra, compose_groups

BRINGING = [
    (group, option)
    for group, files in options.groups().items()
    for option, path in files.items()
    if "defaults" in options.load(path) or options.is_global(path)
]


def test_the_baseline():
    assert compose_groups({}) == by_hydra({})


@pytest.mark.parametrize(("group", "option"), BRINGING)
def test_options_that_bring_others(group, option):
    assert compose_groups({group: option}) == by_hydra({group: option})


def test_every_option_of_every_group():
    columns = itertools.zip_longest(
        *([(group, option) for option in files] for group, files in options.groups().items())
    )
    for column in columns:
        choices = dict(filter(None, column))
        assert compose_groups(choices) == by_hydra(choices), choices


def test_the_command_line_wins_over_what_an_option_brings():
    choices = {"topology": "causal_decoder", "objective": "prefix"}
    assert compose_groups(choices) == by_hydra(choices)
    assert compose_groups(choices)["objective"]["_target_"].endswith("Prefix")
