"""Under bfloat16 autocast every option stays near its float32 self, in outputs and in gradients."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.model.test_options import OPTIONS, SWITCHES, awake
from tests.model.tiny import batch_for, tiny, train_step

SANDWICHES = ["block.placement=sandwich|norm=rmsnorm", "block.placement=sandwich|norm=scalenorm"]
DETERMINISTIC = [option for option in (*OPTIONS, *SWITCHES, *SANDWICHES) if not option.startswith("dropout")]


def gradients(model) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("option", DETERMINISTIC)
def test_bfloat16(option):
    topology = "encoder" if option == "norm=batchnorm" else "encoder_decoder"
    model = awake(tiny(*option.split("|"), f"topology={topology}"))
    batch = batch_for(model, padded=True)
    loss, exact = train_step(model, batch), gradients(model)
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        warnings.simplefilter("error")
        model.train()
        model.zero_grad()
        low, nll = model(batch)
    low.backward()
    assert low.dtype == nll.dtype == torch.float32
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    assert low.item() == pytest.approx(loss.item(), rel=0.01)
    assert torch.nn.functional.cosine_similarity(gradients(model), exact, dim=0) > 0.98


def test_residual_stream_and_normaliser_stay_float32():
    model = tiny().eval()
    seen = []
    model.topology.decoder.stack.register_forward_hook(lambda module, args, out: seen.extend(out[2]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(batch_for(model))
    assert {state.dtype for state in seen} == {torch.float32}
