"""The warning of a first loss far above that of a uniform guess."""

from __future__ import annotations

import math

import pytest
from torch import nn

from ablate.model.norm import NoNorm
from ablate.training.first_loss import FirstLoss

V = 1000  # ln V = 6.908


def row(loss, step=1, kind="train"):
    return {"step": step, "kind": kind, "loss": loss}


def said_of(*rows, model=None):
    said = []
    first_loss = FirstLoss(model or nn.Identity(), V, said.append)
    for one in rows:
        first_loss(one)
    return said


def test_twice_a_uniform_guess_is_too_far():
    assert said_of(row(1.99 * math.log(V))) == []
    (line,) = said_of(row(20.0))
    assert line == (
        "warning: the first loss is 20 nats a token, and a uniform guess has 6.908: "
        "the initial values do not fit this model"
    )


@pytest.mark.parametrize("other", [row(20.0, step=2), row(20.0, kind="validation"), row(20.0, step=0)])
def test_of_the_first_step_of_training_alone(other):
    assert said_of(row(6.9), other) == []


def test_what_helps_is_said_once_and_where_not_one_step_was_taken():
    model = nn.ModuleList([NoNorm(None, None), NoNorm(None, None)])
    first_loss = FirstLoss(model, V, print)
    (line,) = said_of(row(20.0), model=model)
    caution = line.partition("fit this model")[2]
    assert caution == f"; {NoNorm.caution}" and "residual=rezero" in caution
    assert first_loss.explained("the loss was nan at step 1", 0) == f"the loss was nan at step 1{caution}"
    assert first_loss.explained("the loss was nan at step 9", 8) == "the loss was nan at step 9"
    assert first_loss.explained("", 0) == ""
