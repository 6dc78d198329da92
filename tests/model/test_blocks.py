"""Residuals, placements of the norm, serial and parallel blocks, shared layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ablate.errors import UserError
from ablate.model.contract import Context, Memory, View
from ablate.model.residual import DeepNorm, deepnorm_constants
from tests.model.tiny import LENGTH, TARGETS, batch_for, packed, set_all, tiny, train_step

B, D = 2, 24
TORCH = ["position=none", "bias=all", "attention.score_scale=${rsqrt:shape.head_dim}"]  # what torch's layers are


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def view(length: int = LENGTH, padded: bool = False, order: str = "full") -> View:
    segments = packed(length, B)[0] if padded else None
    return View(ids=torch.ones(B, length, dtype=torch.long), segments=segments, order=order)


def encoder(*overrides: str):
    """An encoder's stack with random weights everywhere."""
    stack = tiny("topology=encoder", *overrides).eval().topology.encoder.stack
    set_all(stack, (0.3,))
    return stack


def copy_attention(ours, theirs: nn.MultiheadAttention) -> None:
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.output.state_dict())


def copy_norm(ours, theirs: nn.LayerNorm) -> None:
    theirs.load_state_dict({"weight": ours.scale, "bias": ours.shift})


def copy_block(ours, theirs) -> None:
    """Our block's weights into torch's layer."""
    *attentions, feedforward = (step.sublayers[0] for step in ours.steps)
    for attention, name in zip(attentions, ("self_attn", "multihead_attn"), strict=False):
        copy_attention(attention, getattr(theirs, name))
    theirs.linear1.load_state_dict(feedforward.up.state_dict())
    theirs.linear2.load_state_dict(feedforward.down.state_dict())
    for index, step in enumerate(ours.steps, start=1):
        copy_norm(step.norm, getattr(theirs, f"norm{index}"))


def torch_layer(kind, placement: str):
    first = placement == "pre"
    return kind(D, 4, 48, dropout=0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=first).train()


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("placement", ["pre", "post"])
@torch.no_grad()
def test_encoder_against_torch(placement, padded):
    ours = encoder(*TORCH, f"block.placement={placement}")
    at = view(padded=padded)
    if padded:
        at.segments = at.segments.clamp_max(1)  # torch knows padding, but no segments
    theirs = nn.TransformerEncoder(torch_layer(nn.TransformerEncoderLayer, placement), 2, enable_nested_tensor=False)
    for mine, other in zip(ours.blocks, theirs.layers, strict=True):
        copy_block(mine, other)
    if placement == "pre":
        theirs.norm = nn.LayerNorm(D, eps=1e-6)
        copy_norm(ours.end, theirs.norm)
    assert (ours.end is None) == (placement == "post")
    x = random(B, LENGTH, D)
    expected = theirs(x, src_key_padding_mask=~at.present if padded else None)
    found, _, _ = ours(x, Context(at))
    torch.testing.assert_close(found, at.clear_padding(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("placement", ["pre", "post"])
@torch.no_grad()
def test_decoder_against_torch(placement):
    ours = tiny(*TORCH, f"block.placement={placement}").eval().topology.decoder.stack
    set_all(ours, (0.3,))
    theirs = nn.TransformerDecoder(torch_layer(nn.TransformerDecoderLayer, placement), 2)
    for mine, other in zip(ours.blocks, theirs.layers, strict=True):
        copy_block(mine, other)
    if placement == "pre":
        theirs.norm = nn.LayerNorm(D, eps=1e-6)
        copy_norm(ours.end, theirs.norm)
    x, seen = random(B, TARGETS, D), random(B, LENGTH, D, seed=1)
    mask = nn.Transformer.generate_square_subsequent_mask(TARGETS)
    expected = theirs(x, seen, tgt_mask=mask, tgt_is_causal=True)
    found, _, _ = ours(x, Context(view(TARGETS, order="causal"), Memory(view(), seen, [seen])))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_sandwich_is_a_norm_on_both_sides():
    ours = encoder("block.placement=sandwich", "position=none", "norm=rmsnorm")
    x, ctx = random(B, LENGTH, D), Context(view(padded=True))
    expected = x
    for block in ours.blocks:
        for step in block.steps:
            h = ctx.view.clear_padding(step.norm(expected, ctx.view))
            expected = expected + step.norm_after(step.sublayers[0](h, ctx), ctx.view)
    expected = ctx.view.clear_padding(ours.end(expected, ctx.view))
    torch.testing.assert_close(ours(x, ctx)[0], expected)
    assert (
        len({id(norm) for block in ours.blocks for step in block.steps for norm in (step.norm, step.norm_after)}) == 8
    )


@torch.no_grad()
def test_res_post_is_a_norm_of_each_output():
    """As in OLMo 2, and with a norm at the end of the stack."""
    ours = encoder("block.placement=res_post", "position=none", "norm=rmsnorm")
    x, ctx = random(B, LENGTH, D), Context(view(padded=True))
    expected = x
    for block in ours.blocks:
        for step in block.steps:
            assert step.norm is None
            y = step.sublayers[0](ctx.view.clear_padding(expected), ctx)
            expected = expected + step.norm_after(y, ctx.view)
    torch.testing.assert_close(ours(x, ctx)[0], ctx.view.clear_padding(ours.end(expected, ctx.view)))


@torch.no_grad()
def test_without_the_first_norm_the_first_sublayer_reads_the_input():
    ours = encoder("block.first_norm=false", "position=none")
    assert [step.norm is None for block in ours.blocks for step in block.steps] == [True, False, False, False]
    x, ctx = random(B, LENGTH, D), Context(view())
    step = ours.blocks[0].steps[0]
    torch.testing.assert_close(step(x, ctx)[0], x + step.sublayers[0](x, ctx))


@torch.no_grad()
def test_separate_norms_of_a_parallel_block():
    ours = encoder("block=parallel", "block.separate_norms=true", "position=none")
    x, ctx = random(B, LENGTH, D), Context(view(padded=True))
    (step,) = ours.blocks[1].steps
    attention, feedforward = step.sublayers
    (other,) = step.other_norms
    normed = (ctx.view.clear_padding(norm(x, ctx.view)) for norm in (step.norm, other))
    expected = x + attention(next(normed), ctx) + feedforward(next(normed), ctx)
    torch.testing.assert_close(step(x, ctx)[0], expected)
    assert not torch.allclose(expected, x + attention(h := ctx.view.clear_padding(step.norm(x, ctx.view)), ctx)
                              + feedforward(h, ctx), atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("placement", ["pre", "post", "sandwich", "res_post"])
@pytest.mark.parametrize("final_norm", ["null", "true", "false"])
def test_the_final_norm_is_chosen_apart_from_the_placement(placement, final_norm):
    model = tiny(f"block.placement={placement}", f"block.final_norm={final_norm}")
    wanted = {"null": placement != "post", "true": True, "false": False}[final_norm]
    assert [(stack.stack.end is not None) for stack in (model.topology.encoder, model.topology.decoder)] == [wanted] * 2


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["block.first_norm=false", "block.placement=post"],
            "block.first_norm=false: block.placement=post has",
        ),
        (["block.first_norm=false", "sharing=all"], "with sharing.encoder=true the first layer is others"),
        (["block.first_norm=false", "stack=universal"], "with stack.encoder repeating its layers the first layer is"),
        (["block=parallel", "block.separate_norms=true", "block.placement=res_post"], "choose block.placement=pre or"),
        (["block.final_norm=maybe"], "block.final_norm=maybe: must be true, false or null"),
        (["block.separate_norms=true"], "block.separate_norms"),
    ],
)
def test_norms_that_cannot_be_are_refused(overrides, line):
    with pytest.raises(UserError, match=line):
        tiny(*overrides)


def test_unknown_placement_is_refused():
    with pytest.raises(UserError, match="did you mean 'sandwich'"):
        tiny("block.placement=sandwhich")


def test_unknown_sublayer_is_refused():
    with pytest.raises(UserError, match="did you mean 'feedforward'"):
        tiny("block.sublayers.decoder=[self_attention,feedforwrd]")


def test_a_block_without_sublayers_is_refused():
    with pytest.raises(UserError, match="block.sublayers.encoder: must name at least one sub-layer"):
        tiny("block.sublayers.encoder=[]")
    with pytest.raises(UserError, match="block.sublayers.decoder: must name at least one sub-layer"):
        tiny("topology=causal_decoder", "block.sublayers.decoder=[cross_attention]")  # no encoder to attend to


def test_cross_attention_in_an_encoder_is_refused():
    with pytest.raises(UserError, match="block.sublayers.encoder: cross_attention is for decoders"):
        tiny("block.sublayers.encoder=[self_attention,cross_attention]")


def test_sublayers_can_be_left_out_and_repeated():
    model = tiny("topology=encoder", "block.sublayers.encoder=[feedforward,self_attention,feedforward]")
    kinds = [type(step.sublayers[0]).__name__ for step in model.topology.encoder.stack.blocks[0].steps]
    assert kinds == ["Dense", "Attention", "Dense"]
    assert torch.isfinite(train_step(model, batch_for(model)))


def test_unknown_word_to_tie_is_refused():
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        tiny("embedding.tie=[encodr,head]")


@torch.no_grad()
def test_parallel_block_is_one_sum():
    model = tiny("block=parallel").eval()
    ours = model.topology.decoder.stack
    set_all(ours, (0.3,))
    seen = random(B, LENGTH, D, seed=1)
    x, ctx = random(B, TARGETS, D), Context(view(TARGETS, order="causal"), Memory(view(), seen, [seen]))
    expected = x
    for block in ours.blocks:
        (step,) = block.steps
        h = step.norm(expected, ctx.view)
        attention, cross, feedforward = step.sublayers
        assert cross.looks_at_memory and not attention.looks_at_memory
        expected = expected + attention(h, ctx) + cross(h, ctx) + feedforward(h, ctx)
    torch.testing.assert_close(ours(x, ctx)[0], ours.end(expected, ctx.view), atol=1e-5, rtol=1e-4)


def test_parallel_block_has_one_norm_and_serial_one_for_each_sublayer():
    norms = lambda model: sum("norm.scale" in name for name, _ in model.named_parameters())  # noqa: E731
    assert norms(tiny("block=parallel")) == 2 * (1 + 1)
    assert norms(tiny()) == 2 * (2 + 3)


@pytest.mark.parametrize("norm", ["none", "layernorm"])
@torch.no_grad()
def test_rezero_starts_as_the_identity(norm):
    model = tiny("residual=rezero", f"norm={norm}", "init=paper_adam").eval()
    for tower in (model.topology.encoder, model.topology.decoder):
        x = random(B, LENGTH, D)
        ctx = Context(view(), Memory(view(), x, [x]))
        found, _, states = tower.stack(x, ctx)
        assert all(torch.equal(state, x) for state in states[:-1])
        assert torch.equal(found, tower.stack.end(x, ctx.view))


def test_rezero_wakes_up():
    """The first step moves only the scalars and what is outside the branches; the second reaches all."""
    model = tiny("topology=encoder", "residual=rezero", "init=paper_adam")
    batch = batch_for(model)
    inside = [p for name, p in model.named_parameters() if ".sublayers." in name]
    scalars = [p for name, p in model.named_parameters() if name.endswith("residual.weight")]
    train_step(model, batch)
    assert all(p.grad.abs().max() == 0 for p in inside) and all(p.grad.abs() > 0 for p in scalars)
    with torch.no_grad():
        for scalar in scalars:
            scalar -= 0.1 * scalar.grad
    train_step(model, batch)
    assert all(p.grad.abs().max() > 0 for p in inside)


@pytest.mark.parametrize("residual", ["plain", "rezero", "layerscale"])
def test_residuals_add_a_scaled_branch(residual):
    step = encoder(f"residual={residual}", "position=none").blocks[0].steps[0]
    x, y = random(B, LENGTH, D), random(B, LENGTH, D, seed=1)
    weight = getattr(step.residual, "weight", torch.tensor(1.0))
    assert weight.shape == {"plain": (), "rezero": (), "layerscale": (D,)}[residual]
    torch.testing.assert_close(step.residual(x, lambda h: y, view()), x + weight * y)


def test_layerscale_starts_small():
    weight = tiny("residual=layerscale").topology.encoder.stack.blocks[0].steps[0].residual.weight
    assert torch.equal(weight.detach(), torch.full((D,), 0.1))


# Wang et al. 2022, table of alpha and beta: (topology, stack, encoder's depth, decoder's depth) -> alpha, beta
DEEPNORM = [
    ({"encoder": 6}, "encoder", 12**0.25, 48**-0.25),
    ({"decoder": 24}, "decoder", 48**0.25, 192**-0.25),
    ({"encoder": 6, "decoder": 12}, "encoder", 0.81 * (6**4 * 12) ** (1 / 16), 0.87 * (6**4 * 12) ** (-1 / 16)),
    ({"encoder": 6, "decoder": 12}, "decoder", 36**0.25, 144**-0.25),
]


@pytest.mark.parametrize(("depths", "stack", "alpha", "beta"), DEEPNORM)
def test_deepnorm_constants_of_the_paper(depths, stack, alpha, beta):
    assert deepnorm_constants(depths, stack) == pytest.approx((alpha, beta))


@torch.no_grad()
def test_deepnorm_is_post_norm_around_a_larger_stream():
    ours = encoder("residual=deepnorm", "position=none")
    x, ctx = random(B, LENGTH, D), Context(view())
    alpha = 4**0.25  # two layers
    expected = x
    for block in ours.blocks:
        for step in block.steps:
            assert isinstance(step.residual, DeepNorm)
            expected = step.norm(alpha * expected + step.sublayers[0](expected, ctx), ctx.view)
    torch.testing.assert_close(ours(x, ctx)[0], expected, atol=1e-5, rtol=1e-4)
    assert ours.end is None


@pytest.mark.parametrize("topology", ["encoder_decoder", "causal_decoder", "encoder"])
@torch.no_grad()
def test_deepnorm_takes_its_constants_from_the_depths(topology):
    model = tiny("residual=deepnorm", f"topology={topology}", "stack.encoder.n_layers=3")
    depths = {"encoder": 3, "decoder": 2}
    depths = {stack: depths[stack] for stack in model.topology.stacks}
    for stack in depths:
        residual = getattr(model.topology, stack).stack.blocks[0].steps[0].residual
        assert residual.alpha == deepnorm_constants(depths, stack)[0]


@pytest.mark.parametrize("sharing", ["all", "encoder", "decoder", "none"])
def test_shared_layers_are_one_block(sharing):
    model = tiny(f"sharing={sharing}")
    for name in ("encoder", "decoder"):
        blocks = getattr(model.topology, name).stack.blocks
        assert (blocks[0] is blocks[1]) == (sharing in ("all", name))


def test_shared_layers_have_the_weights_of_one_and_the_outputs_of_copies():
    shared, copies, one = tiny("sharing=all"), tiny(), tiny(n_layers=1)
    set_all(shared)
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    assert count(shared) == count(one)
    copies.load_state_dict(shared.state_dict())  # which names every layer
    batch = batch_for(shared)
    torch.testing.assert_close(train_step(shared, batch), train_step(copies, batch))
    first, second = (copies.topology.encoder.stack.blocks[layer].steps[1].sublayers[0].up.weight for layer in (0, 1))
    both = shared.topology.encoder.stack.blocks[0].steps[1].sublayers[0].up.weight
    torch.testing.assert_close(both.grad, first.grad + second.grad, atol=1e-5, rtol=1e-4)


def test_depths_differ_by_stack():
    topology = tiny("stack.encoder.n_layers=3", "stack.decoder.n_layers=1").topology
    assert (len(topology.encoder.stack.blocks), len(topology.decoder.stack.blocks)) == (3, 1)


def test_a_norm_behind_the_embedding_belongs_to_its_stack():
    model = tiny("embedding.norm=true", "norm=batchnorm_encoder")
    assert model.topology.encoder.embedding is model.topology.decoder.embedding
    assert type(model.topology.encoder.norm).__name__ == "BatchNorm"
    assert type(model.topology.decoder.norm).__name__ == "LayerNorm"
    assert tiny().topology.encoder.norm is None
