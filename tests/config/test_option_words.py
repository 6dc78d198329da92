"""Other names of options, and the options that they are answered with."""

from __future__ import annotations

import pytest

from ablate.config import compose, option_words, options
from ablate.errors import UserError

NAMED = [(group, word, names) for group, words in option_words.WORDS.items() for word, (_, names) in words.items()]


def told(override: str) -> str:
    with pytest.raises(UserError) as caught:
        compose([override])
    return str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("activation=silu", "SiLU is activation=swish"),
        ("attention=gqa", "grouped-query attention is attention=grouped_query"),
        ("attention=MQA", "multi-query attention is attention=multi_query"),
        ("norm=ln", "layer normalisation is norm=layernorm"),
        ("norm=rms-norm", "root-mean-square normalisation is norm=rmsnorm"),
        ("position=rotary", "a rotary embedding is position=rope"),
        ("feedforward=moe", "a mixture of experts is feedforward=mixture_of_experts"),
        ("attention=sparse", "attention=factorized or attention=factorized_fixed"),
        ("attention=linear", "this attention is not among the options: a package of yours may bring it"),
        ("optimizer=lion", "this optimizer is not among the options"),
    ],
)
def test_an_option_by_another_name_is_answered_with_ours(override, expected):
    group, _, option = override.partition("=")
    line = told(override)
    assert line.startswith(f"{group}={option}: unknown option; ") and expected in line
    assert "did you mean" not in line


def test_a_slip_of_the_pen_is_still_answered_with_the_nearest_option():
    assert "did you mean 'rmsnorm'" in told("norm=rmsnrm")


def test_every_option_that_is_named_exists_and_no_word_is_an_option():
    groups = options.groups()
    assert [(group, name) for group, _, names in NAMED for name in names if name not in groups[group]] == []
    assert [(group, word) for group, word, _ in NAMED if word in groups[group]] == []
    assert all(word == word.lower() and "-" not in word for _, word, _ in NAMED)
