"""FlexAttention gives the plain products' results and gradients: on a CPU by its definition, on a GPU compiled."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.attention import flex_attention as torchs

from ablate.model import flex
from tests.model.tiny import SHAPE, batch_for, packed, set_all, tiny

SOFT_CAP = ["attention.soft_cap=0.5"]
WITHOUT_A_TRIANGLE = {  # what torch's other kernels need a tensor of all pairs for
    "relative bias": ["position=relative_bias"],
    "relative bias in the encoder": ["position=relative_bias", "topology=encoder"],
    "relative bias, learned positions": ["position=learned_and_relative_bias"],
    "a bias in each layer": ["position=relative_bias", "position.per_layer=true"],
    "ALiBi": ["position=alibi"],
    "ALiBi, one key head": ["position=alibi", "attention=multi_query"],
    "window": ["position=none", "attention=sliding_window", "attention.window=3"],
    "window, ALiBi": ["position=alibi", "attention=sliding_window", "attention.window=3"],
    "window, grouped, rotary": ["position=rope", "attention=sliding_window", "attention.window=3"],
    "window in the encoder": ["position=none", "topology=encoder", "attention=sliding_window", "attention.window=3"],
    "prefix": ["position=rope", "topology=prefix_decoder"],
    "prefix, relative bias": ["position=relative_bias", "topology=prefix_decoder"],
    "encoder and decoder": ["topology=encoder_decoder"],
    "soft-cap": ["position=rope", *SOFT_CAP],
    "soft-cap, window, ALiBi": ["position=alibi", "attention=sliding_window", "attention.window=3", *SOFT_CAP],
}
NOT_BY_DISTANCE = {
    "bias by query": ["position=contextual"],
    "weights that are read": ["position=relative_representation"],
    "pattern by head": ["attention=factorized", "position=none"],
    "dropout": ["dropout=0.1"],
}


def causal(*options: str, **shape: int):
    given = options if any(one.startswith("topology") for one in options) else ("topology=causal_decoder", *options)
    model = tiny(*given, **shape)
    set_all(model, (0.2,))
    return model


def dense_flex_attention(q, k, v, score_mod=None, block_mask=None, scale=None, enable_gqa=False):
    """What FlexAttention is defined to be, with all pairs at once: it has gradients on a CPU."""
    if enable_gqa:
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    index = torch.meshgrid(*map(torch.arange, scores.shape), indexing="ij")
    if score_mod is not None:
        scores = score_mod(scores, *index)
    if block_mask is not None:
        scores = scores.masked_fill(~block_mask(*index), -math.inf)
    return scores.softmax(-1) @ v


@pytest.fixture
def flexible(monkeypatch):
    """Call it to have FlexAttention everywhere; the number of its calls is what it appends to."""

    def switch(dense: bool = False) -> list[torch.Size | None]:
        tables, attend = [], flex.attend
        monkeypatch.setattr(flex, "is_at_hand", lambda q: True)
        if dense:
            monkeypatch.setattr(torchs, "flex_attention", dense_flex_attention)
            monkeypatch.setattr(torchs, "create_block_mask", lambda mask, *size, **options: mask)

        def counted(q, k, v, *, table, mask, soft_cap=None):
            tables.append(None if table is None else table.shape)
            return attend(q, k, v, table=table, mask=mask, soft_cap=soft_cap)

        monkeypatch.setattr(flex, "attend", counted)
        return tables

    return switch


def losses(model, batch):
    model.zero_grad()
    loss, nll = model.train()(batch)
    loss.backward()
    return loss.detach(), nll.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", WITHOUT_A_TRIANGLE.values(), ids=WITHOUT_A_TRIANGLE)
def test_losses_and_gradients_of_its_definition(options, padded, flexible):
    model = causal(*options)
    batch = batch_for(model, padded=padded)
    plain = losses(model, batch)
    tables = flexible(dense=True)
    torch.testing.assert_close(losses(model, batch), plain, atol=1e-5, rtol=1e-4)
    assert tables
    assert {shape for shape in tables if shape} <= {(4, 2 * length - 1) for length in (12, 16)}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", WITHOUT_A_TRIANGLE.values(), ids=WITHOUT_A_TRIANGLE)
def test_values_of_torchs_own(options, padded, flexible):
    model = causal(*options).eval()
    batch = batch_for(model, padded=padded)
    with torch.no_grad():
        plain = model(batch)
        assert flexible() == []
        torch.testing.assert_close(model(batch), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", NOT_BY_DISTANCE.values(), ids=NOT_BY_DISTANCE)
def test_what_it_does_not_take(options, flexible):
    tables = flexible()
    model = causal(*options)
    losses(model, batch_for(model))
    assert not tables


def test_a_plain_triangle_is_left_to_the_flag(flexible):
    tables = flexible(dense=True)
    model = causal("position=rope")
    losses(model, batch_for(model))
    assert not tables
    losses(model, batch_for(model, padded=True))
    assert len(tables) == 2


def test_the_block_mask_is_made_once_for_all_layers(flexible, monkeypatch):
    flexible(dense=True)
    made = []
    monkeypatch.setattr(torchs, "create_block_mask", lambda mask, *size, **options: made.append(size) or mask)
    for options, count in ((["attention=sliding_window"], 1), (["attention=alternating"], 2), (["attention=full"], 1)):
        made.clear()
        model = causal("position=alibi", *options, n_layers=4)
        losses(model, batch_for(model))
        assert made == [(None, None, 12, 12)] * count, options
    made.clear()
    losses(model, batch_for(model, padded=True))
    assert made == [(2, None, 12, 12)]


def test_it_is_chosen_while_compiling_for_a_gpu_only():
    assert not flex.is_at_hand(torch.empty(1, 1, 8, 64))
    found = []
    probe = lambda x: found.append(flex.is_at_hand(x)) or x + 1  # noqa: E731
    torch.compile(probe, backend="eager")(torch.empty(1, 1, 8, 64))
    assert found == [False]


@pytest.mark.parametrize("options", [["position=relative_bias"], ["position=alibi", "attention=sliding_window"]])
def test_compiles_whole(options, flexible):
    model = causal(*options).eval()
    batch = batch_for(model, padded=True)
    with torch.no_grad():
        plain = model(batch)
        flexible()
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(batch), plain, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", WITHOUT_A_TRIANGLE.values(), ids=WITHOUT_A_TRIANGLE)
def test_losses_and_gradients_on_a_gpu(options, padded, monkeypatch):
    """Compiled, at a length of more than one block of the kernel, against the products on the CPU."""
    length = 256
    tokens = {"head_dim": 16, "length": length, "batch_tokens": 2 * length}
    model = causal(*options, "objective.length=256", **tokens)
    generator = torch.Generator().manual_seed(0)
    batch = {
        name: torch.randint(2, SHAPE["vocab_size"], (2, length), generator=generator)
        for name in (*(f"{stack}_ids" for stack in model.topology.stacks), "targets")
    }
    if "prefix" in model.topology.mask_orders.values():
        batch["prefix_lengths"] = torch.tensor([100, 200])
    if padded:
        for stack in model.topology.stacks:
            batch[f"{stack}_segments"], batch[f"{stack}_positions"] = packed(length, 2)
    loss, nll, gradients = losses(model, batch)
    attend, calls = flex.attend, []
    monkeypatch.setattr(flex, "attend", lambda *given, **more: calls.append(1) or attend(*given, **more))
    model = model.cuda()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False)
    found = losses(compiled, {name: tensor.cuda() for name, tensor in batch.items()})
    torch.testing.assert_close(found[0].cpu(), loss, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[1].cpu(), nll, atol=1e-2, rtol=1e-2)
    for name, parameter in model.named_parameters():
        difference = (parameter.grad.cpu() - gradients[name]).norm()
        assert difference < 0.02 * gradients[name].norm() + 1e-5, name
    assert calls
