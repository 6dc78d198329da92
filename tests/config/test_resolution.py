"""Interpolations followed on plain containers give what OmegaConf gives, or nothing."""

import pytest
from omegaconf import OmegaConf

from ablate import packaged
from ablate.config import compose, composing, options
from ablate.config.overrides import read
from ablate.config.resolution import resolve
from ablate.config.resolvers import register
from ablate.study import definition, inheritance, runs

SWEEPS = inheritance.names(packaged.sweeps())


def by_omegaconf(tree):
    register()
    return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)


@pytest.mark.parametrize("group", options.groups())
def test_every_option_resolves_as_by_omegaconf(group):
    for option in options.groups()[group]:
        tree = composing.compose_groups({group: option})
        if option == "hub":
            tree["data"]["path"] = "some/set"
        found = resolve(tree)
        assert found == by_omegaconf(tree), option
        assert [type(value) for value in _leaves(found)] == [type(value) for value in _leaves(by_omegaconf(tree))]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_row_resolves_as_by_omegaconf(name):
    sweep = definition.load(name, packaged.sweeps())
    for row in sweep.rows:
        found, errors = read(runs.overrides(sweep, row, 0))
        assert not errors
        tree = composing.compose_groups({o.key: o.value for o in found if o.is_group})
        assert resolve(tree) == by_omegaconf(tree), row


@pytest.mark.parametrize(
    ("tree", "value"),
    [
        ({"a": "${b}", "b": 3}, 3),
        ({"a": "${b}", "b": "${c.d}", "c": {"d": [1, "${e}"]}, "e": None}, [1, None]),
        ({"a": "${b.c}", "b": "${d}", "d": {"c": 1.5}}, 1.5),
        ({"a": "${of:2/3,b}", "b": 6}, 4),
        ({"a": "${multiple:256,8/3,b}", "b": 8192}, 22016),  # LLaMA 65B
        ({"a": "${multiple:4096,52/15,b}", "b": 8192}, 28672),  # Llama 2 70B: 1.3 times as wide
        ({"a": "${multiple:16,8/3,b}", "b": 48}, 128),
        ({"a": "${multiple:16,8/3,b}", "b": 49}, 144),
        ({"a": "${multiple:1,8/3,b}", "b": 10}, 26),
        ({"a": "${plus:1,b}", "b": 2.5}, 3.5),
        ({"a": "${plus:-1,b}", "b": "${of:1/2,c}", "c": 8}, 3),
        ({"a": "$b {c} d"}, "$b {c} d"),
    ],
)
def test_what_is_followed(tree, value):
    assert resolve(tree)["a"] == value == by_omegaconf(tree)["a"]


@pytest.mark.parametrize(
    "written",
    [
        "${oc.env:HOME}", "x-${b}", "${b}${b}", "${.b}", "${of:2/3,${b}}", "${nothing}", "${a}", "${of:1/4,b}",
        "${oc.decode:'1'}", "${b.c}", "???", "\\${b}", "${of:'2/3',b}", "${of:2/3}", "${unknown:1}", "${b[0]}",
    ],
)  # fmt: skip
def test_what_is_left_to_omegaconf(written):
    assert resolve({"a": written, "b": 6}) is None


def test_a_circle_is_left_to_omegaconf():
    assert resolve({"a": "${b}", "b": "${c}", "c": "${a}"}) is None


def _leaves(tree):
    values = tree.values() if isinstance(tree, dict) else tree
    for value in values:
        yield from _leaves(value) if isinstance(value, (dict, list)) else (value,)


def test_models_as_large_as_the_papers_have_its_numbers_and_small_ones_their_own():
    """Of fine-tuning: a number, a key, or null for all."""
    large, small = (
        compose([f"shape={shape}", "evaluation=[heldout,superglue]"]).evaluation.superglue
        for shape in ("paper", "micro")
    )
    assert (large.steps, large.limit, large.cap) == (262144, None, 524288)
    assert small.limit is not None and small.steps < 10000 and small.cap < 10000
    xsum = [compose([f"shape={shape}", "evaluation=[heldout,xsum]"]).evaluation.xsum for shape in ("paper", "micro")]
    assert [one.input_length for one in xsum] == [2048, 128]
