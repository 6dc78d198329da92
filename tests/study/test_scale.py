"""`scale:` of a sweep file: the sizes, and the steps of each."""

import subprocess
import sys

import pytest

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.model.parameter_count import parameters, scaled
from ablate.study import runs
from tests.study.test_contexts import TEXT, read

SCALE = """
scale:
  tokens_per_parameter: 4.5
  sizes:
    small: [shape.n_layers=2, shape.d_model=64, shape.n_heads=4, shape.head_dim=16, shape.d_ff=240]
    large: nano
"""


def steps(sweep, size):
    (given,) = [text for text in sweep.in_context(size).base if text.startswith("trainer.steps=")]
    return int(given.partition("=")[2])


def test_a_size_is_a_context_with_its_steps():
    sweep = read(TEXT + SCALE + "rungs: [2]")
    assert [part.name for part in sweep.parts] == ["try/small", "try/small-x2", "try/large", "try/large-x2"]
    assert sweep.contexts["large"] == ("shape=nano",)
    small = build_model(compose(sweep.contexts["small"] + ("shape=nano",)), "meta")
    assert scaled(small) == parameters(small)["total"] == 355_264  # the head shares the only table
    assert steps(sweep, "small") == round(4.5 * 355_264 / 2048)
    assert steps(sweep, "small") < steps(sweep, "large")
    table, rung, *_ = sweep.parts
    assert "trainer.steps=1562" in runs.planned(rung)[0].overrides and rung.scale is None and table.scale
    assert "trainer.steps=3" in runs.planned(table, ["trainer.steps=3"])[0].overrides


def test_a_table_of_the_embedding_alone_is_not_counted():
    tied, untied = (build_model(compose(["shape=nano", f"embedding.tie={tie}"]), "meta")
                    for tie in ("[encoder,decoder,head]", "[encoder,decoder]"))  # fmt: skip
    table = 2048 * 48
    assert parameters(untied)["total"] - parameters(tied)["total"] == table
    assert scaled(tied) == scaled(untied) == parameters(tied)["total"]


def test_sizes_stand_beside_other_contexts():
    sweep = read(TEXT + SCALE + "contexts: {causal: [topology=causal_decoder]}")
    assert [*sweep.contexts] == ["causal", "small", "large"]
    assert sweep.in_context("causal").scale is None
    assert "trainer.steps=100" in sweep.in_context("causal").base


def test_counting_leaves_no_torch_behind():
    code = (
        "import sys; from pathlib import Path; from ablate.study.definition import parse;"
        f"sweep = parse('try', {TEXT + SCALE!r}, Path('try.yaml')); sweep.tables; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("scale: [nano]", "scale must hold sizes"),
        ("scale: {tokens_per_parameter: 3}", "scale must hold sizes"),
        ("scale: {sizes: {}}", "scale must hold sizes"),
        ("scale: {sizes: {a: nano}, tokens: 3}", "scale: unknown key 'tokens'"),
        ("scale: {sizes: {a: nano}, tokens_per_parameter: 0}", "tokens_per_parameter must be above 0"),
        ("scale: {sizes: {a: nano}, tokens_per_parameter: true}", "tokens_per_parameter must be above 0"),
        ("scale: {sizes: {a/b: nano}}", "scale: 'a/b' cannot name a context"),
        ("scale: {sizes: {a: {b: 1}}}", "scale: a must be a list of overrides"),
        ("scale: {sizes: {a: [trainer.steps=3]}}", "scale: a: trainer.steps follows from tokens_per_parameter"),
        ("scale: {sizes: {a: [], A: []}}", "two are called 'a' but for capital letters"),
        ("scale: {sizes: {a: []}}\ncontexts: {a: []}", "scale: 'a' is the name of a context already"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        read(TEXT + given)


def test_a_size_that_cannot_be_composed_is_named():
    with pytest.raises(UserError, match="scale: b: shape=nanu: unknown option"):
        read(TEXT + "scale: {sizes: {a: nano, b: nanu}}").in_context("a")
