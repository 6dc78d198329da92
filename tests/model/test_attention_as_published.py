"""Attention as published models have it: the same weights in transformers' layer, the same output; not with a slip."""

from __future__ import annotations

import importlib

import pytest
import torch

from ablate.errors import UserError
from ablate.model import attention as attention_module
from ablate.model.contract import CAUSAL, Context, View
from tests.model.tiny import batch_for, set_all, tiny, train_step

T, D, H, K = 12, 24, 4, 6
SCALE = f"attention.score_scale={K**-0.5}"
NORM = "attention.qk_norm_kind={_target_:ablate.model.norm.RMSNorm,eps:1e-6}"
DEFAULTS = ["position=rope", "attention=grouped_query", SCALE]
COMMON = {
    "hidden_size": D, "num_attention_heads": H, "num_key_value_heads": 2, "head_dim": K, "attention_bias": False,
    "num_hidden_layers": 2, "vocab_size": 32,
}  # fmt: skip


def randomise(module) -> None:
    """Every parameter random, gains about 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = name.endswith(("norm.scale", "norm.weight"))
            parameter.copy_(1 + 0.15 * noise if is_gain else noise * 0.5)


def ours(*options: str, order: str = CAUSAL):
    """The first self-attention of a tiny decoder or encoder, with random weights."""
    topology = "causal_decoder" if order == CAUSAL else "encoder"
    settings = {one.partition("=")[0]: one for one in (*DEFAULTS, *options)}
    model = tiny(f"topology={topology}", *settings.values())
    randomise(model)
    tower = model.topology.decoder if order == CAUSAL else model.topology.encoder
    return tower.stack.blocks[0].steps[0].sublayers[0].eval()


def output(layer, x, order: str = CAUSAL):
    ids = torch.ones(x.shape[:2], dtype=torch.long)
    with torch.no_grad():
        return layer(x, Context(View(ids, order)))


def theirs(layer, name: str, x, visible, **settings):
    """What transformers' layer `name` of this model makes of x with the weights of `layer`."""
    model = name.lower()
    module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
    config = getattr(module, f"{name}Config")(**COMMON, **settings)
    config._attn_implementation = "eager"
    other = getattr(module, f"{name}Attention")(config, layer_idx=0).eval()
    weights = {f"{n[0]}_proj.weight": getattr(layer, n).weight for n in ("query", "key", "value")}
    weights["o_proj.weight"] = layer.output.weight
    if layer.query_norm is not None:
        weights |= {"q_norm.weight": layer.query_norm.scale, "k_norm.weight": layer.key_norm.scale}
    other.load_state_dict(weights)
    mask = torch.zeros(T, T).masked_fill(~visible, -1e9)[None, None]
    with torch.no_grad():
        angles = getattr(module, f"{name}RotaryEmbedding")(config)(x, torch.arange(T)[None])
        return other(x, position_embeddings=angles, attention_mask=mask)[0]


def distance():
    at = torch.arange(T)
    return at[:, None] - at


TRIANGLE = distance() >= 0
CASES = {  # options, transformers' layer and its settings, what is visible; then options of a slip
    "Gemma 2": (
        ["attention.soft_cap=1.5", "attention.score_scale=0.5"], "Gemma2",
        {"attn_logit_softcapping": 1.5, "query_pre_attn_scalar": 4}, TRIANGLE,
        ["attention.soft_cap=null", "attention.soft_cap=1.6", SCALE],
    ),
    "Qwen 3": (
        ["attention.qk_norm=head", NORM], "Qwen3", {}, TRIANGLE,
        ["attention.qk_norm=projection", "attention.qk_norm=none"],
    ),
    "OLMo 2": (
        ["attention.qk_norm=projection", NORM], "Olmo2", {"rms_norm_eps": 1e-6}, TRIANGLE,
        ["attention.qk_norm=head", "attention.qk_norm=none"],
    ),
    "OLMo 1.7": (
        ["attention.clip_qkv=1.0"], "Olmo", {"clip_qkv": 1.0}, TRIANGLE,
        ["attention.clip_qkv=null", "attention.clip_qkv=1.1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "name", "settings", "visible", "slips"), CASES.values(), ids=CASES)
def test_equals_transformers(options, name, settings, visible, slips):
    x = torch.randn(2, T, D, generator=torch.Generator().manual_seed(0))
    layer = ours(*options)
    expected = theirs(layer, name, x, visible, **settings)
    torch.testing.assert_close(output(layer, x), expected, atol=1e-5, rtol=0)
    for slip in slips:
        key = slip.partition("=")[0]
        other = ours(*(one for one in options if not one.startswith(f"{key}=")), slip)
        weights = other.state_dict()
        same = {name: value for name, value in layer.state_dict().items() if name in weights}
        other.load_state_dict(
            {name: value for name, value in same.items() if value.shape == weights[name].shape}, strict=False
        )
        assert (output(other, x) - expected).abs().max() > 1e-3, slip


@pytest.mark.parametrize("option", ["attention.soft_cap=0.7", "attention.qk_norm=head", "attention.clip_qkv=0.3"])
@pytest.mark.parametrize("position", ["rope", "relative_bias", "relative_representation", "contextual"])
def test_in_every_path(option, position, monkeypatch):
    """Also to the memory; with the fused kernels preferred wherever they can be."""
    model = tiny(option, f"position={position}").eval()
    set_all(model, (0.3,))
    batch = batch_for(model, padded=True)
    with torch.no_grad():
        plain = model.logits(batch)
        monkeypatch.setattr(attention_module, "takes_flag", lambda q, reading: True)
        torch.testing.assert_close(model.logits(batch), plain, atol=1e-5, rtol=1e-5)
        other = tiny(f"position={position}").eval()
        other.load_state_dict(model.state_dict(), strict=False)
        assert (other.logits(batch) - plain).abs().max() > 1e-3
        layer = model.topology.decoder.stack.blocks[0].steps[1].sublayers[0]  # that looks at the memory
        layer.soft_cap, layer.clip_qkv, layer.query_norm, layer.key_norm = None, None, None, None
        assert (model.logits(batch) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("over", ["head", "projection"])
def test_norms_keep_a_lower_precision(over):
    """Queries and keys come out of it in the precision in which values are."""
    model = tiny(f"attention.qk_norm={over}", "norm=rmsnorm", "position=rope", "topology=causal_decoder")
    with torch.autocast("cpu", torch.bfloat16):
        loss = train_step(model, batch_for(model))
    expected = train_step(model, batch_for(model))
    torch.testing.assert_close(loss, expected, atol=0.05, rtol=0.02)
    layer = model.topology.decoder.stack.blocks[0].steps[0].sublayers[0]
    assert layer.query_norm.scale.shape == ((K,) if over == "head" else (H * K,))
    with torch.autocast("cpu", torch.bfloat16):
        normed = layer._projected(layer.query, layer.query_norm, torch.randn(2, T, D), View(torch.ones(2, T)))
    assert normed.dtype == torch.bfloat16


def test_what_cannot_be():
    for option, words in {
        "attention.soft_cap=0": "attention.soft_cap=0: must be above 0",
        "attention.clip_qkv=-1": "must not be negative",
        "attention.qk_norm=heads": "one of none, head, projection.*head",
    }.items():
        with pytest.raises(UserError, match=words):
            tiny(option)
    with pytest.raises(UserError, match="qk_norm=head: a norm with statistics of the batch"):
        tiny("topology=encoder", "attention.qk_norm=head", "norm=batchnorm")
