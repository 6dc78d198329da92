"""Every norm with every activation starts near a uniform guess, or says what would."""

from __future__ import annotations

import math

import pytest
import torch

from ablate.config import build_model, compose
from ablate.config.options import groups
from ablate.model.norm import NoNorm, Norm
from tests.model.tiny import batch_for

NEAR = 1.5  # times ln V
SHAPE = ["shape.vocab_size=192", "shape.d_ff=96"]  # of nano, but for what costs time and no depth
STEEP = ["relu", "softplus", "squared_relu", "liglu", "swiglu"]  # that start furthest from it without norms
HELP = ["residual=rezero", "residual=fixup", "init=fixup", "init=gpt2"]


def first_loss(*given):
    """The first training loss, in units of ln V, and the norms of the model."""
    model = build_model(compose([*SHAPE, *given])).train()
    with torch.no_grad():
        loss, _ = model(batch_for(model, rows=4))
    return loss.item() / math.log(192), [module for module in model.modules() if isinstance(module, Norm)]


@pytest.mark.parametrize("norm", groups()["norm"])
def test_every_norm_with_every_activation(norm):
    topology = "encoder" if norm == "batchnorm" else "encoder_decoder"
    for activation in groups()["activation"]:
        loss, norms = first_loss(f"norm={norm}", f"activation={activation}", f"topology={topology}")
        assert loss < NEAR or any(one.caution for one in norms), (activation, loss)


@pytest.mark.parametrize("remedy", HELP)
def test_what_the_caution_names_helps(remedy):
    assert remedy in NoNorm.caution
    for activation in STEEP:
        loss, _ = first_loss("norm=none", f"activation={activation}", remedy)
        assert loss < NEAR, (activation, loss)


@pytest.mark.parametrize("residual", groups()["residual"])
def test_every_residual_with_its_norm(residual):
    loss, _ = first_loss(f"residual={residual}")
    assert loss < NEAR
