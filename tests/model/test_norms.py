"""Norms against torch, transformers and x-transformers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import x_transformers.x_transformers as xt
from torch import nn
from transformers.models.cohere.modeling_cohere import CohereLayerNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.olmo.modeling_olmo import OlmoLayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from ablate.errors import UserError
from ablate.model.contract import Place, View
from ablate.model.norm import BatchNorm, LayerNorm, NoNorm, PartialRMSNorm, RMSNorm, ScaleNorm
from tests.model.tiny import packed, tiny

B, T, D = 3, 10, 24
PARTS, PLACE = SimpleNamespace(d_model=D), Place("encoder")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(option, **options) -> nn.Module:
    """A norm with random scale and shift."""
    norm = option(PARTS, PLACE, **options)
    with torch.no_grad():
        for seed, parameter in enumerate(norm.parameters()):
            parameter.copy_(1 + 0.3 * random(*parameter.shape, seed=seed))
    return norm


@pytest.fixture
def x() -> torch.Tensor:
    return 2 + 3 * random(B, T, D, seed=7)


def view(padded: bool = False) -> View:
    return View(ids=torch.ones(B, T, dtype=torch.long), segments=packed(T, B)[0] if padded else None)


def test_layernorm_against_torch(x):
    ours, theirs = make(LayerNorm, eps=1e-6), nn.LayerNorm(D, eps=1e-6)
    theirs.load_state_dict({"weight": ours.scale, "bias": ours.shift})
    torch.testing.assert_close(ours(x, view()), theirs(x))


@pytest.mark.parametrize("theirs", [T5LayerNorm, LlamaRMSNorm])
def test_rmsnorm_against_transformers(x, theirs):
    ours, theirs = make(RMSNorm, eps=1e-6), theirs(D, eps=1e-6)
    theirs.load_state_dict({"weight": ours.scale})
    torch.testing.assert_close(ours(x, view()), theirs(x))


def test_rmsnorm_with_offset_against_gemma(x):
    ours, theirs = make(RMSNorm, eps=1e-6, offset=1.0), Gemma2RMSNorm(D, eps=1e-6)
    theirs.load_state_dict({"weight": ours.scale})
    torch.testing.assert_close(ours(x, view()), theirs(x))


def test_rmsnorm_against_x_transformers(x):
    ours, theirs = make(RMSNorm, eps=1e-12), xt.RMSNorm(D)
    theirs.load_state_dict({"g": ours.scale})
    torch.testing.assert_close(ours(x, view()), theirs(x))


def test_rmsnorm_starts_at_one_whatever_its_offset():
    for offset in (0.0, 1.0):
        norm = tiny("topology=encoder", "norm=rmsnorm", f"norm.offset={offset}").topology.encoder.stack.end
        assert torch.equal(norm.scale + norm.offset, torch.ones(24))


def test_layernorm_without_a_bias_against_cohere(x):
    ours, theirs = make(LayerNorm, eps=1e-5, bias=False), CohereLayerNorm(D, eps=1e-5)
    theirs.load_state_dict({"weight": ours.scale})
    torch.testing.assert_close(ours(x, view()), theirs(x))


def test_layernorm_without_gain_and_bias_against_olmo(x):
    ours = make(LayerNorm, eps=1e-5, gain=False, bias=False)
    assert not list(ours.parameters())
    torch.testing.assert_close(ours(x, view()), OlmoLayerNorm(D)(x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("option", [LayerNorm, RMSNorm])
def test_gain_bias_and_offset_by_their_formula(x, option, gain, bias, offset):
    ours = make(option, eps=1e-2, gain=gain, bias=bias, offset=offset)
    centred = x - x.mean(-1, keepdim=True) if option is LayerNorm else x
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-2).sqrt()
    expected = expected * (ours.scale + offset) if gain else expected
    torch.testing.assert_close(ours(x, view()), expected + ours.shift if bias else expected)
    assert len(list(ours.parameters())) == gain + bias


@pytest.mark.parametrize("option", [LayerNorm, RMSNorm])
def test_float32_rounds_once(x, option):
    """In bf16, also where the gain is: as Gemma's, and not as a gain in bf16 would give."""
    ours = make(option, eps=1e-6, offset=1.0, float32=True).to(torch.bfloat16)
    exact = make(option, eps=1e-6, offset=1.0)
    exact.load_state_dict(ours.state_dict())
    x = x.to(torch.bfloat16)
    found = ours(x, view())
    assert found.dtype == torch.bfloat16 and torch.equal(found, exact(x.float(), view()).to(torch.bfloat16))
    ours.float32 = False
    assert not torch.equal(ours(x, view()), found)
    if option is RMSNorm:
        theirs = Gemma2RMSNorm(D, eps=1e-6).to(torch.bfloat16)
        theirs.load_state_dict({"weight": ours.scale})
        assert torch.equal(found, theirs(x))


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_an_offset_without_a_gain_is_refused(norm):
    with pytest.raises(UserError, match=r"^norm\.offset=1\.0 has no effect with norm\.gain=false$"):
        tiny(f"norm={norm}", "norm.offset=1.0", "norm.gain=false")


def test_partial_rmsnorm_of_all_channels_is_rmsnorm(x):
    ours, whole = make(PartialRMSNorm, eps=1e-6, fraction=1.0), make(RMSNorm, eps=1e-6)
    torch.testing.assert_close(ours(x, view()), whole(x, view()))


@pytest.mark.parametrize(("fraction", "channels"), [(0.0675, 2), (0.25, 6), (1e-3, 1)])
def test_partial_rmsnorm_takes_its_statistic_from_the_first_channels(x, fraction, channels):
    ours = make(PartialRMSNorm, eps=1e-6, fraction=fraction)
    statistic = x[..., :channels].pow(2).mean(-1, keepdim=True)
    torch.testing.assert_close(ours(x, view()), x / (statistic + 1e-6).sqrt() * ours.scale)


def test_scalenorm_against_x_transformers(x):
    """x-transformers keeps sqrt(D) apart from its scalar."""
    ours, theirs = make(ScaleNorm, eps=1e-5), xt.ScaleNorm(D)
    theirs.load_state_dict({"g": ours.scale / D**0.5})
    torch.testing.assert_close(ours(x, view()), theirs(x))


def test_scalenorm_starts_at_the_root_of_the_width():
    norm = tiny("topology=encoder", "norm=scalenorm").topology.encoder.stack.end
    assert norm.scale.item() == pytest.approx(24**0.5)


def test_no_norm(x):
    assert make(NoNorm)(x, view()) is x


@pytest.mark.parametrize("option", [LayerNorm, RMSNorm, ScaleNorm])
def test_zeros_stay_finite(option):
    norm = make(option, eps=1e-6)
    x = torch.zeros(1, 2, D, requires_grad=True)
    y = norm(x, view())
    y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("option", [LayerNorm, RMSNorm, ScaleNorm])
def test_another_width(option):
    norm = option(PARTS, PLACE, eps=1e-6, width=8)
    assert norm.scale.shape in ((8,), (1,)) and norm(random(2, 3, 8), view()).shape == (2, 3, 8)


@pytest.mark.parametrize("padded", [False, True])
def test_batchnorm_against_torch(padded):
    """Our tokens without padding are torch's batch: outputs, gradients, running averages, evaluation."""
    ours, theirs = make(BatchNorm, eps=1e-5, momentum=0.1), nn.BatchNorm1d(D, eps=1e-5, momentum=0.1)
    theirs.load_state_dict({"weight": ours.scale, "bias": ours.shift}, strict=False)
    at = view(padded)
    there = torch.ones(B, T, dtype=torch.bool) if at.present is None else at.present
    for step in range(3):
        x = (1 + step + random(B, T, D, seed=step)).requires_grad_()
        y = x.detach().clone().requires_grad_()
        found, expected = ours(x, at)[there], theirs(y[there])
        torch.testing.assert_close(found, expected)
        weights = random(*found.shape, seed=9)
        (found * weights).sum().backward()
        (expected * weights).sum().backward()
        torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.variance, theirs.running_var)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(x, at)[there], theirs(x[there]))


def test_batchnorm_does_not_see_padding():
    ours = make(BatchNorm, eps=1e-5, momentum=0.1)
    x, at = random(B, T, D), view(padded=True)
    other = torch.where(at.present[..., None], x, torch.full_like(x, 1e6))
    torch.testing.assert_close(ours(x, at)[at.present], ours(other, at)[at.present])


def test_batchnorm_of_padding_alone_stays_finite():
    ours = make(BatchNorm, eps=1e-5, momentum=0.1)
    at = View(ids=torch.zeros(B, T, dtype=torch.long), segments=torch.zeros(B, T, dtype=torch.long))
    assert torch.isfinite(ours(random(B, T, D), at)).all()
    assert torch.isfinite(ours.mean).all() and torch.isfinite(ours.variance).all()


def test_batchnorm_running_averages_are_saved_with_the_weights():
    model = tiny("topology=encoder", "norm=batchnorm")
    names = {name for name in model.state_dict() if name.startswith("topology.encoder.stack.end.")}
    assert {name.rpartition(".")[2] for name in names} == {"scale", "shift", "mean", "variance"}
