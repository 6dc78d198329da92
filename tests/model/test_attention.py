"""Attention with every position encoding: who sees whom, and the same numbers as torch and transformers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional

from ablate.config import compose
from ablate.config.building import fill_slots
from ablate.config.options import groups, load
from ablate.errors import UserError
from ablate.model import attention as attention_module
from ablate.model.attention import Attention, attend, fused, mask_to_bias, takes_flag
from ablate.model.build import build
from ablate.model.choice import ByLayer
from ablate.model.contract import CAUSAL, Context, Place, View
from ablate.model.position import ADD
from tests.model.tiny import SHAPE, batch_for, overrides, set_all, tiny

ATTENTIONS = list(groups()["attention"])
STRETCHED = ("rope_linear", "rope_ntk", "rope_yarn", "rope_llama3")  # rope with other angles
POSITIONS = [name for name in groups()["position"] if name not in STRETCHED]
IN_ENCODERS = ("local_encoder", "transient_global")  # for models that have one
IN_ALL_ORDERS = [name for name in ATTENTIONS if not name.endswith("convolution")]  # which have a file of their own
EXACT = {"atol": 1e-6, "rtol": 0}


def hidden(model, batch):
    with torch.no_grad():
        return model.topology(batch)[0]


def changed(batch, name, where):
    """The batch with other ids where the mask (B,T) says so."""
    return {**batch, name: torch.where(where, (batch[name] + 1) % 160, batch[name])}


def check_order(model, batch, at):
    """Outputs before `at` do not see the decoder's token there; the one at `at` does."""
    where = torch.zeros_like(batch["decoder_ids"], dtype=torch.bool)
    where[:, at] = True
    before, after = hidden(model, batch), hidden(model, changed(batch, "decoder_ids", where))
    torch.testing.assert_close(after[:, :at], before[:, :at], **EXACT)
    assert (after[:, at] - before[:, at]).abs().amax(-1).min() > 1e-4


def check_segments(model, batch, name, segments):
    """Outputs of the second segment see neither the first one's tokens nor padding on this side; the first's do."""
    before = hidden(model, batch)
    scored = batch[f"{model.topology.scored}_segments"]
    for hidden_part in (0, 1):
        after = hidden(model, changed(batch, name, segments == hidden_part))
        unchanged = scored > hidden_part
        torch.testing.assert_close(after[unchanged], before[unchanged], **EXACT)
    assert (after[scored == 1] - before[scored == 1]).abs().amax(-1).max() > 1e-4


def heard(options: list[str]) -> bool:
    """Whether every attention that stands in the model calls all hooks that the position works through."""
    slots = fill_slots(compose(overrides(*options)))
    for place in (Place(stack, layer, 2, "self_attention") for stack in ("encoder", "decoder") for layer in (0, 1)):
        attention, position = slots["attention"], slots["position"]
        while hasattr(attention, "choose"):
            attention = attention.choose(place)
        while hasattr(position, "choose"):
            position = position.choose(place)
        if not position.func.needs - {ADD} <= attention.func.supports:
            return False
    return True


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("attention", IN_ALL_ORDERS)
def test_who_sees_whom(attention, position):
    options = [f"attention={attention}", f"position={position}"]
    if not heard(options):
        with pytest.raises(UserError, match=f"position={position} needs the hook"):
            tiny(*options)
        return
    model = tiny(*options)
    set_all(model, (0.3,))
    batch, padded = batch_for(model), batch_for(model, padded=True)
    assert torch.isfinite(hidden(model, batch)).all() and torch.isfinite(hidden(model, padded)).all()
    for at in (5, 11):
        check_order(model, batch, at)
    for stack in ("encoder", "decoder"):
        check_segments(model, padded, f"{stack}_ids", padded[f"{stack}_segments"])

    if attention in IN_ENCODERS:
        return
    model = tiny(*options, "topology=prefix_decoder")
    set_all(model, (0.3,))
    batch = batch_for(model) | {"prefix_lengths": torch.tensor([8, 7])}
    assert torch.isfinite(hidden(model, batch)).all()
    for at in (8, 11):
        check_order(model, batch, at)
    inside = torch.zeros_like(batch["decoder_ids"], dtype=torch.bool)
    inside[:, 5] = True
    seen = hidden(model, changed(batch, "decoder_ids", inside)) - hidden(model, batch)
    assert seen[:, 4].abs().amax(-1).min() > 1e-4


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_of_the_memory_only(attention):
    """Hidden from a decoder that is not padded itself, whether that is said of it or not; and the other way round."""
    model = tiny(f"attention={attention}")
    batch = batch_for(model)
    ones = torch.ones_like(batch["decoder_ids"])
    batch["encoder_segments"] = (torch.arange(16) < 9).long().expand(2, -1)
    loss, nll = model(batch)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    torch.testing.assert_close(nll, model(batch | {"decoder_segments": ones})[1])
    others = batch | {"encoder_ids": batch["encoder_ids"].clone()}
    others["encoder_ids"][:, 9:] += 1
    torch.testing.assert_close(nll, model(others)[1])

    seen = batch_for(model) | {"decoder_segments": (torch.arange(12) < 9).long().expand(2, -1)}
    alone = model(batch_for(model))[1]
    torch.testing.assert_close(model(seen)[1][:, :9], alone[:, :9])


def layer_of(*options, **shape) -> Attention:
    model = tiny("topology=causal_decoder", *options, **shape)
    set_all(model, (0.5,))
    return model.topology.decoder.stack.blocks[0].steps[0].sublayers[0]


def context(length=10, order=CAUSAL):
    return Context(View(ids=torch.ones(2, length, dtype=torch.long), order=order))


def run(layer, x, order=CAUSAL):
    with torch.no_grad():
        return layer(x, context(x.shape[1], order))


@pytest.mark.parametrize("groups_of_heads", [1, 2, 4])
def test_grouped_queries_as_in_torch(groups_of_heads):
    layer = layer_of("position=none", f"attention.n_kv_heads={groups_of_heads}")
    x = torch.randn(2, 10, 24)
    with torch.no_grad():
        q, k, v = (part(x).unflatten(-1, (-1, 6)).transpose(1, 2) for part in (layer.query, layer.key, layer.value))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=True)
        expected = layer.output(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(run(layer, x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("option", ["full", "grouped_query", "multi_query"])
def test_as_llama(option):
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaConfig, LlamaRotaryEmbedding

    layer = layer_of(f"attention={option}", "position=rope", f"attention.score_scale={6**-0.5}")
    config = LlamaConfig(
        hidden_size=24, num_attention_heads=4, num_key_value_heads=layer.n_kv_heads, head_dim=6, attention_bias=False
    )
    config._attn_implementation = "eager"
    theirs = LlamaAttention(config, layer_idx=0)
    for name, part in zip("qkvo", (layer.query, layer.key, layer.value, layer.output), strict=True):
        getattr(theirs, f"{name}_proj").weight.data = part.weight.data
    x = torch.randn(2, 10, 24)
    mask = torch.full((10, 10), float("-inf")).triu(1)[None, None]
    with torch.no_grad():
        angles = LlamaRotaryEmbedding(config)(x, torch.arange(10)[None])
        expected = theirs(x, position_embeddings=angles, attention_mask=mask)[0]
    torch.testing.assert_close(run(layer, x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("groups_of_heads", [1, 2])
def test_grouped_is_full_with_equal_heads(groups_of_heads):
    few, full = layer_of(f"attention.n_kv_heads={groups_of_heads}"), layer_of()
    full.query, full.output, full.position = few.query, few.output, few.position
    for name in ("key", "value"):
        by_head = getattr(few, name).weight.data.unflatten(0, (groups_of_heads, 6))
        getattr(full, name).weight.data = by_head.repeat_interleave(4 // groups_of_heads, 0).flatten(0, 1)
    x = torch.randn(2, 10, 24)
    torch.testing.assert_close(run(few, x), run(full, x), atol=5e-5, rtol=5e-5)


def test_as_many_groups_as_heads_is_full():
    every = tiny("attention=grouped_query", "attention.n_kv_heads=4")
    full = tiny("attention=full")
    batch = batch_for(full)
    assert torch.equal(hidden(every, batch), hidden(full, batch))


@pytest.mark.parametrize("batch_of_mask", [0, 1, 3])
@pytest.mark.parametrize("batch_of_bias", [0, 1, 3])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_plain_is_fused(kv_heads, batch_of_bias, batch_of_mask):
    q, k, v = (torch.randn(3, heads, 7, 5, requires_grad=True) for heads in (4, kv_heads, kv_heads))
    bias = torch.randn(batch_of_bias, 4, 7, 7, requires_grad=True) if batch_of_bias else None
    visible = torch.rand(batch_of_mask, 1, 7, 7) > 0.4 if batch_of_mask else None
    mask_bias = mask_to_bias(None if visible is None else visible | torch.eye(7, dtype=torch.bool))
    inputs = [t for t in (q, k, v, bias) if t is not None]
    upstream = torch.randn(3, 4, 7, 5)
    ours = attend(q, k, v, bias=bias, mask_bias=mask_bias)
    theirs = fused(q, k, v, bias=bias, mask_bias=mask_bias, causal=False, dropout=0.0)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_fused_kernel_is_causal_and_drops_out():
    q, k, v = (torch.randn(2, 4, 7, 5) for _ in range(3))
    mask_bias = mask_to_bias(torch.ones(7, 7, dtype=torch.bool).tril()[None, None])
    alone = {"bias": None, "mask_bias": None}
    torch.testing.assert_close(
        fused(q, k, v, **alone, causal=True, dropout=0.0), attend(q, k, v, bias=None, mask_bias=mask_bias)
    )
    torch.manual_seed(0)
    ones = torch.ones(2, 4, 7, 1)
    kept = fused(torch.zeros(2, 4, 7, 4000), torch.zeros(2, 4, 7, 4000), ones, **alone, causal=False, dropout=0.25)
    # Equal weights of 1/7, of which three quarters are kept: sevenths by 4/3, in the mean 1.
    sevenths = kept * 7 * 0.75
    torch.testing.assert_close(sevenths, sevenths.round(), atol=1e-4, rtol=0)
    assert (kept != 1).any() and 0.8 < kept.mean() < 1.2


def test_score_scale():
    layer, scaled = layer_of("position=none"), layer_of("position=none", "attention.score_scale=0.25")
    scaled.load_state_dict(layer.state_dict())
    layer.query.weight.data *= 0.25
    x = torch.randn(2, 10, 24)
    torch.testing.assert_close(run(layer, x), run(scaled, x), atol=1e-6, rtol=1e-6)


def test_masks_are_made_once(monkeypatch):
    made = []
    visible = View.visible
    monkeypatch.setattr(View, "visible", lambda view: made.append(view) or visible(view))
    for attention in ("full", "sliding_window", "alternating"):
        made.clear()
        model = tiny(f"attention={attention}", n_layers=4)
        hidden(model, batch_for(model))
        assert len(made) == (4 if attention == "alternating" else 2), attention


@pytest.mark.parametrize("kv_heads", [3, 8])
def test_heads_that_cannot_be_grouped(kv_heads):
    with pytest.raises(UserError, match="do not divide into"):
        tiny(f"attention.n_kv_heads={kv_heads}")


READY = [shape for shape, path in groups()["shape"].items() if not load(path).get("published")]


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("shape", READY)
def test_comes_out_at_every_ready_shape(attention, shape):
    from ablate.config import build_model, compose

    build_model(compose([f"attention={attention}", f"shape={shape}", "shape.n_layers=2"]), device="meta")


class Neighbours(Attention):
    """A variant that says by its pattern alone where it looks: at itself and the token before it."""

    def pattern(self, view):
        at = torch.arange(view.length)
        return ((at[:, None] - at[None, :]).abs() <= 1)[None, None]


def test_a_pattern_alone_is_enough():
    """It is neither taken for the triangle of the fused kernel, nor shared with a layer that looks everywhere."""
    slots = fill_slots(compose(overrides("topology=causal_decoder", "position=rope")))
    everywhere = slots["attention"]
    near = partial(Neighbours, **everywhere.keywords)
    for pattern in (["near", "everywhere"], ["everywhere", "near"]):
        slots["attention"] = ByLayer(pattern, near=near, everywhere=everywhere)
        model = build(slots, SHAPE)
        attentions = (block.steps[0].sublayers[0] for block in model.topology.decoder.stack.blocks)
        layers = dict(zip(pattern, attentions, strict=True))
        view = View(ids=torch.ones(1, 8, dtype=torch.long), order=CAUSAL)
        assert layers["everywhere"]._is_triangle(view) and not layers["near"]._is_triangle(view)
        ctx = Context(view)
        mask_bias = {name: layers[name]._mask_bias(ctx) for name in pattern}
        assert (mask_bias["everywhere"] == 0).sum() == 36 and (mask_bias["near"] == 0).sum() == 15


@pytest.mark.parametrize("options", [["position=rope"], ["position=none"], ["position=rope", "attention=multi_query"]])
def test_a_long_causal_sequence_by_the_kernels_flag(options, monkeypatch):
    """The same loss and gradients as by two products, whose weights of each pair are not kept."""

    def losses(causal_from):
        monkeypatch.setattr(attention_module, "CAUSAL_FROM", causal_from)
        kept = []
        model.zero_grad()
        keep = lambda tensor: kept.append(tensor.shape) or tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss, nll = model(batch)
        loss.backward()
        return loss, nll, [parameter.grad.clone() for parameter in model.parameters()], (2, 4, 48, 48) in kept

    model = tiny("topology=causal_decoder", *options, length=48, batch_tokens=96)
    set_all(model, (0.2,))
    ids = torch.randint(2, 192, (2, 48), generator=torch.Generator().manual_seed(0))
    batch = {"decoder_ids": ids, "targets": ids.flip(1)}
    *plain, keeps_weights = losses(49)
    *flagged, keeps_weights_flagged = losses(48)
    torch.testing.assert_close(flagged, plain, atol=1e-5, rtol=1e-4)
    assert keeps_weights and not keeps_weights_flagged


@pytest.mark.parametrize("options", [["position=alibi"], ["position=rope", "attention=sliding_window"]])
def test_no_flag_for_what_is_more_than_a_triangle(options, monkeypatch):
    monkeypatch.setattr(attention_module, "takes_flag", lambda q, reading: True)
    monkeypatch.setattr(attention_module, "fused", None)  # a call would raise
    model = tiny("topology=causal_decoder", *options)
    model(batch_for(model))
    model = tiny("topology=causal_decoder", "position=none")
    model(batch_for(model, padded=True))
    with pytest.raises(TypeError):
        model(batch_for(model))


@pytest.mark.parametrize(
    ("length", "width", "dtype", "is_taken"),
    [
        (255, 32, torch.float32, False),
        (256, 32, torch.float32, True),
        (256, 128, torch.float32, False),
        (512, 128, torch.float32, True),
        (256, 64, torch.bfloat16, False),
        (1024, 64, torch.bfloat16, True),
    ],
)
def test_from_which_length_the_flag_is_taken(length, width, dtype, is_taken):
    assert takes_flag(torch.empty(1, 1, length, width, dtype=dtype), reading=False) == is_taken
