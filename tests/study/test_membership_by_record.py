"""Whether a run on disk is one that a sweep asks for, by its record alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablate.run.record import Record
from ablate.study.definition import parse
from ablate.study.membership import Membership, extra_of

SWEEP = """
question: Which activation?
base: [shape=nano, data=builtin]
baseline: ReLU
rows:
  ReLU: []
  SwiGLU: [activation=swiglu, norm=rmsnorm]
early_fraction: 0.25
"""
OF_THE_SWEEP = ["sweep=try", "row='SwiGLU'", "seed.base=3"]
WHOLE = ["shape=nano", "data=builtin", "early_fraction=0.25", "activation=swiglu", "norm=rmsnorm", *OF_THE_SWEEP]


def made(overrides, command="ablate sweep try", row="SwiGLU"):
    return Record(schema=1, status="done", sweep="try", row=row, seed=3, overrides=tuple(overrides), command=command)


def reason(*given, **more):
    return Membership(parse("try", SWEEP, Path("try.yaml"))).reason(made(*given, **more))


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("ablate sweep try", []),
        ("ablate sweep try trainer.steps=7 'row=x'", ["trainer.steps=7"]),
        ("ablate sweep trainer.steps=7 try dropout=0.1 --only a", ["trainer.steps=7", "dropout=0.1"]),
        ("ablate sweep try \"data.files='a b.txt'\" seed.base=4 sweep=other", ["data.files='a b.txt'"]),
        ("ablate sweep 'try", []),
        ("", []),
    ],
)
def test_what_was_given_beside_the_sweep(command, extra):
    assert extra_of(made([], command)) == extra


def test_the_row_as_the_sweep_has_it_in_any_order():
    assert reason(WHOLE) == reason(WHOLE[::-1]) == reason([]) == ""


def test_settings_without_effect_are_left_out():
    assert reason([*WHOLE, "trainer.log_every=3", "keep_checkpoints=all"]) == ""


def test_what_was_given_to_the_whole_sweep_belongs_to_the_row():
    given = "ablate sweep try trainer.steps=7"
    assert reason([*WHOLE, "trainer.steps=7"], command=given) == ""
    assert reason(WHOLE, command=given) == "made without trainer.steps=7, which the sweep now sets for this row"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [one for one in WHOLE if one != "norm=rmsnorm"],
            "made without norm=rmsnorm, which the sweep now sets for this row",
        ),
        (
            ["shape=nano", *OF_THE_SWEEP],
            "made without data=builtin, activation=swiglu, norm=rmsnorm, which the sweep now sets for this row",
        ),
        ([*WHOLE, "bias=all"], "made with bias=all, which the sweep does not set for this row"),
    ],
)
def test_what_differs_is_named(overrides, said):
    assert reason(overrides) == said


def test_a_row_that_is_no_more():
    assert reason(WHOLE, row="GELU") == "the sweep has no row 'GELU'"
