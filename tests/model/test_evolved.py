"""The Evolved Transformer's cell: torch's convolutions, doubled heads, who sees whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import Context, View
from tests.model.test_orders import changed
from tests.model.tiny import LENGTH, TARGETS, batch_for, packed, set_all, tiny

D, NARROW = 24, 12


def eval_model(*overrides: str, **shape: int):
    model = tiny("block=evolved", *overrides, **shape).eval()
    set_all(model, (0.3,))
    return model


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def view(length: int, order: str = "full", padded: bool = False) -> View:
    segments = packed(length, 2)[0].clamp_max(1) if padded else None
    return View(ids=torch.ones(2, length, dtype=torch.long), order=order, segments=segments)


def torch_separable(ours, width: int, ahead: int) -> nn.Module:
    """Depthwise and pointwise convolution by torch, on (B,T,C)."""
    channels, out = ours.taps.shape[1], ours.pointwise.weight.shape[0]
    depthwise, pointwise = nn.Conv1d(channels, channels, width, groups=channels), nn.Conv1d(channels, out, 1)
    depthwise.load_state_dict({"weight": ours.taps.T[:, None], "bias": ours.shift})
    pointwise.load_state_dict({"weight": ours.pointwise.weight[..., None], "bias": ours.pointwise.bias})
    pad = (width - 1 - ahead, ahead)
    return lambda x: pointwise(depthwise(functional.pad(x.transpose(1, 2), pad))).transpose(1, 2)


@pytest.mark.parametrize("padded", [False, True])
@torch.no_grad()
def test_encoder_convolutions_against_torch(padded):
    ours = eval_model("topology=encoder").topology.encoder.stack.blocks[0].steps[1].sublayers[0]
    at = view(LENGTH, padded=padded)
    x = at.clear_padding(random(2, LENGTH, D))
    conv = nn.Conv1d(D, NARROW, 3, padding=1, bias=False)
    conv.load_state_dict({"weight": ours.narrow.weight})
    right = functional.relu(conv(x.transpose(1, 2)).transpose(1, 2))
    h = functional.relu(x @ ours.wide.weight.T)
    h[..., :NARROW] += right
    h = at.clear_padding(functional.layer_norm(h, h.shape[-1:], ours.norm.scale, ours.norm.shift, 1e-6))
    expected = torch.zeros(2, LENGTH, D)
    expected[..., :NARROW] = torch_separable(ours.separable, 9, ahead=4)(h)
    assert (ours.wide.weight.shape[0], ours.separable.taps.shape) == (4 * D, (9, 4 * D))
    torch.testing.assert_close(ours(x, Context(at)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("clear_start", ["true", "false"])
@torch.no_grad()
def test_decoder_convolutions_against_torch(clear_start):
    model = eval_model("topology=causal_decoder", f"block.clear_start={clear_start}")
    ours = model.topology.decoder.stack.blocks[0].steps[1].sublayers[0]
    x = random(2, LENGTH, D)
    start = torch.ones(LENGTH, 1)
    start[0] = float(clear_start == "false")
    h = functional.relu(torch_separable(ours.wide, 11, ahead=0)(x * start))
    h[..., :NARROW] += torch_separable(ours.narrow, 7, ahead=0)(x * start)
    h = functional.layer_norm(h, (2 * D,), ours.norm.scale, ours.norm.shift, 1e-6)
    expected = torch_separable(ours.separable, 7, ahead=0)(h * start)
    torch.testing.assert_close(ours(x, Context(view(LENGTH, "causal"))), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_gated_unit_against_torch():
    ours = eval_model("topology=encoder").topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    x = random(2, LENGTH, D)
    both = torch.cat((x @ ours.up.weight.T + ours.up.bias, x @ ours.gate.weight.T + ours.gate.bias), -1)
    torch.testing.assert_close(ours(x, Context(view(LENGTH))), functional.glu(both, -1), atol=1e-5, rtol=1e-4)


def kinds(model, stack: str) -> list[tuple[str, ...]]:
    return [step.kinds for step in getattr(model.topology, stack).stack.blocks[0].steps]


def test_a_cell_stands_for_two_layers():
    model = tiny("block=evolved", n_layers=6)
    for stack in ("encoder", "decoder"):
        assert len(getattr(model.topology, stack).stack.blocks) == 3
    rest = [("self_attention",), ("cross_attention",), ("feedforward",)]
    assert kinds(model, "decoder") == [("self_attention", "cross_attention"), ("convolutions",), *rest]
    assert kinds(model, "encoder") == [("gated_unit",), ("convolutions",), rest[0], rest[2]]
    alone = tiny("block=evolved", "topology=causal_decoder")
    assert kinds(alone, "decoder") == [("self_attention",), ("convolutions",), rest[0], rest[2]]


def test_half_a_cell_is_refused():
    with pytest.raises(UserError, match="stack.encoder.n_layers=3: must be a multiple of 2"):
        tiny("block=evolved", "stack.encoder.n_layers=3")


@pytest.mark.parametrize(("attention", "kv_heads"), [("full", 4), ("multi_query", 1), ("grouped_query", 2)])
def test_a_decoder_begins_with_twice_the_heads_and_a_table_for_them(attention, kv_heads):
    steps = tiny("block=evolved", f"attention={attention}", n_layers=4).topology.decoder.stack.blocks
    first, cross, second = (steps[0].steps[step].sublayers[at] for step, at in ((0, 0), (0, 1), (2, 0)))
    assert [(one.n_heads, one.n_kv_heads) for one in (first, cross, second)] == [
        (8, 2 * kv_heads), (4, kv_heads), (4, kv_heads)]  # fmt: skip
    assert first.position.table.shape[0] == 8 and second.position.table.shape[0] == 4
    assert first.position is steps[1].steps[0].sublayers[0].position  # one table for each stack and head count
    assert second.position is steps[1].steps[2].sublayers[0].position


def test_swish_belongs_to_the_decoder_unless_overridden():
    x = random(5)
    for given, functions in (([], (torch.relu, functional.silu)), (["activation=elu"], 2 * (functional.elu,))):
        topology = tiny("block=evolved", *given).topology
        for stack, function in zip((topology.encoder, topology.decoder), functions, strict=True):
            torch.testing.assert_close(stack.stack.blocks[0].steps[-1].sublayers[0].activation(x), function(x))


@pytest.mark.parametrize("topology", ["causal_decoder", "prefix_decoder", "encoder_decoder"])
def test_decoders_see_the_past_alone(topology):
    model = eval_model(f"topology={topology}", "block.clear_start=false")
    batch = batch_for(model)
    if "prefix_lengths" in batch:
        batch["prefix_lengths"] = torch.tensor([3, 3])
    assert changed(model, batch, "decoder", 5).tolist() == [at >= 5 for at in range(TARGETS)]
    if topology == "encoder_decoder":
        assert changed(model, batch, "encoder", LENGTH - 1).all()


@pytest.mark.parametrize("topology", ["encoder", "causal_decoder", "encoder_decoder"])
def test_padding_changes_nothing_that_is_present(topology):
    model = eval_model(f"topology={topology}")
    batch = batch_for(model, rows=1)
    padded, alone = dict(batch), {}
    for stack in model.topology.stacks:
        ids = batch[f"{stack}_ids"]
        padded[f"{stack}_segments"] = (torch.arange(ids.shape[1]) < 7).long()[None]
        alone[f"{stack}_ids"] = ids[:, :7]
    with torch.no_grad():
        torch.testing.assert_close(model.logits(padded)[:, :7], model.logits(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("topology", ["encoder", "causal_decoder"])
def test_packed_segments_leak_through_convolutions_unless_they_are_kept_apart(topology, within):
    model = eval_model(f"topology={topology}", f"block.within_segments={str(within).lower()}")
    (stack,) = model.topology.stacks
    batch = batch_for(model, rows=1, padded=True)
    there = batch[f"{stack}_segments"][0] == 2
    with torch.no_grad():
        together, alone = model.logits(batch)[:, there], model.logits({f"{stack}_ids": batch[f"{stack}_ids"][:, there]})
    assert torch.allclose(together, alone, atol=1e-5, rtol=1e-4) == within


@pytest.mark.parametrize("placement", ["post", "sandwich"])
def test_placements(placement):
    stack = eval_model(f"block.placement={placement}").topology.encoder.stack
    assert (stack.end is None) == (placement == "post")
    assert all((step.norm_after is not None) == (placement == "sandwich") for step in stack.blocks[0].steps)
