"""Overrides of earlier versions, with the keys of today."""

import pytest

from ablate.config.renamed import renamed


@pytest.mark.parametrize(
    "old, new",
    [
        ("early=0.5", "early_fraction=0.5"),
        ("++early=0.5", "++early_fraction=0.5"),
        ("keep=all", "keep_checkpoints=all"),
        ("evaluation.tokens=131072", "evaluation.heldout.tokens=131072"),
        ("evaluation.seed=3", "evaluation.heldout.seed=3"),
        (
            "own_rates=[{parameters: '*.kappa', times: 0.1, until: 0.96}]",
            "parameter_groups=[{parameters: '*.kappa', lr_multiplier: 0.1, until_fraction: 0.96}]",
        ),
        ("own_rates=[{times:0.1,parameters:'*.times'}]", "parameter_groups=[{lr_multiplier:0.1,parameters:'*.times'}]"),
    ],
)
def test_an_override_of_an_earlier_version(old, new):
    assert renamed(old) == new
    assert renamed(new) == new


@pytest.mark.parametrize(
    "text", ["norm=rmsnorm", "row='early=0.5'", "~norm", "schedule.early=1", "x={times: 1, keep: 2}"]
)
def test_what_never_had_another_name_stays(text):
    assert renamed(text) == text
