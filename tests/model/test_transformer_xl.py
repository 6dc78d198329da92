"""Transformer-XL's relative positions against XLNet's layer, and as its formula in a decoder."""

from __future__ import annotations

import pytest
import torch
from transformers import XLNetConfig, XLNetModel
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from ablate.config import build_model, compose
from ablate.model.contract import CAUSAL, FULL, Context, View
from tests.model.tiny import set_all, tiny

T, D, H, K = 19, 24, 4, 6


def layer_of(*options: str, order: str = FULL):
    topology = "encoder" if order == FULL else "causal_decoder"
    score_scale = f"attention.score_scale={K**-0.5}"
    model = tiny(f"topology={topology}", "position=transformer_xl", score_scale, *options)
    set_all(model, (0.4,))
    return getattr(model.topology, model.topology.scored).stack.blocks[0].steps[0].sublayers[0].eval()


def output(layer, x, order: str = FULL):
    with torch.no_grad():
        return layer(x, Context(View(torch.ones(x.shape[:2], dtype=torch.long), order)))


def xlnet(layer, x, order: str = FULL):
    """The same by XLNet's layer, without its residual addition and norm."""
    config = XLNetConfig(d_model=D, n_head=H, n_layer=1, d_inner=D, vocab_size=32, attn_type="bi")
    theirs = XLNetRelativeAttention(config).eval()
    by_head = lambda part: part.weight.T.unflatten(1, (H, K))  # noqa: E731
    with torch.no_grad():
        for name, part in zip("qkv", (layer.query, layer.key, layer.value), strict=True):
            getattr(theirs, name).copy_(by_head(part))
        theirs.o.copy_(layer.output.weight.unflatten(1, (H, K)))
        theirs.r.copy_(by_head(layer.position.projection))
        theirs.r_w_bias.copy_(layer.position.content_bias)
        theirs.r_r_bias.copy_(layer.position.distance_bias)
        r = XLNetModel(config).relative_positional_encoding(T, T, bsz=len(x))
        heads = [torch.einsum("ibh,hnd->ibnd", x.transpose(0, 1), getattr(theirs, name)) for name in "qkv"]
        at = torch.arange(T)
        mask = None if order == FULL else (at[None] > at[:, None]).float()[:, :, None, None].expand(T, T, len(x), 1)
        out = theirs.rel_attn_core(*heads, torch.einsum("ibh,hnd->ibnd", r, theirs.r), attn_mask=mask)
        return torch.einsum("ibnd,hnd->ibh", out, theirs.o).transpose(0, 1)


@pytest.mark.parametrize("order", [FULL, CAUSAL])
def test_equals_xlnet(order):
    layer, x = layer_of(order=order), torch.randn(2, T, D, generator=torch.Generator().manual_seed(0))
    expected = xlnet(layer, x, order)
    torch.testing.assert_close(output(layer, x, order), expected, atol=1e-5, rtol=0)
    position = layer.position
    u, v = position.content_bias.data, position.distance_bias.data
    position.content_bias.data, position.distance_bias.data = v, u  # each has its own place
    assert (output(layer, x, order) - expected).abs().max() > 1e-2
    position.content_bias.data, position.distance_bias.data, position.max_timescale = u, v, 1000.0
    assert (output(layer, x, order) - expected).abs().max() > 1e-3


def test_each_layer_has_its_own():
    model = tiny("position=transformer_xl")
    names = [name for name, _ in model.named_parameters() if "projection" in name and "position" in name]
    assert len(names) == 4  # two layers in each of two stacks, none for the memory
    block = model.topology.encoder.stack.blocks[0].steps[0].sublayers[0].position
    assert sum(parameter.numel() for parameter in block.parameters()) == D * H * K + 2 * H * K
    assert block.projection.bias is None


def test_the_width_of_heads_is_free():
    layer, x = layer_of("attention.head_dim=10"), torch.randn(2, T, D)
    assert output(layer, x).shape == (2, T, D)
    assert layer.position.projection.weight.shape == (40, D)


def test_in_a_lower_precision():
    layer, x = layer_of(order=CAUSAL), torch.randn(2, T, D)
    with torch.autocast("cpu", torch.bfloat16):
        low = output(layer, x, CAUSAL)
    torch.testing.assert_close(low.float(), output(layer, x, CAUSAL), atol=0.2, rtol=0.05)


@pytest.mark.parametrize(("layers", "heads", "head_dim", "d"), [(8, 16, 32, 512), (24, 16, 128, 2048)])
def test_counts_as_gopher(layers, heads, head_dim, d):
    """13 d^2 L + 32000 d, to which the paper's sizes add up; and gains, u and v."""
    sizes = {
        "d_model": d,
        "n_layers": layers,
        "n_heads": heads,
        "head_dim": head_dim,
        "d_ff": 4 * d,
        "vocab_size": 32000,
    }
    options = ["topology=causal_decoder", "norm=rmsnorm", "bias=none", "position=transformer_xl"]
    cfg = compose([*options, "embedding.tie=[decoder,head]", *(f"shape.{key}={value}" for key, value in sizes.items())])
    total = sum(parameter.numel() for parameter in build_model(cfg, device="meta").parameters())
    assert total == 13 * d * d * layers + 32000 * d + (2 * layers + 1) * d + 2 * layers * heads * head_dim
