"""Synthesizers against their formulas written out, and against full attention where they are it."""

from __future__ import annotations

import pytest
import torch

from ablate.config import build_model, compose
from ablate.errors import UserError
from ablate.model.contract import CAUSAL, FULL, Context, View
from tests.model.tiny import batch_for, packed, set_all, tiny

T = 10
ROWS = {
    "dense": [], "dense_plus": [], "dense_plus_alpha": [],
    "factorized": [], "factorized_by_query": ["attention.by_query=true"],
    "random": [], "random_plus": [], "random_plus_alpha": [],
}  # fmt: skip


def layer_of(row: str, *overrides: str, topology: str = "encoder"):
    name = row.removesuffix("_by_query")
    model = tiny(f"attention=synthesizer_{name}", f"topology={topology}", *ROWS[row], *overrides)
    set_all(model, (0.4,))
    return getattr(model.topology, topology.removeprefix("causal_")).stack.blocks[0].steps[0].sublayers[0]


def context(order: str = FULL, segments: torch.Tensor | None = None, rows: int = 2) -> Context:
    return Context(View(ids=torch.ones(rows, T, dtype=torch.long), order=order, segments=segments))


def synthetic(layer, row: str, q, h: int, at: int, to: int):
    """One entry of S, from the paper's text."""
    if row.startswith("dense"):
        return sum(max(q[i].item(), 0.0) * layer.table[to, i].item() for i in range(len(q)))
    if row.startswith("random"):
        return layer.table[h, at, to].item()
    first = at if row == "factorized_by_query" else to
    return sum(layer.first[h, r, first].item() * layer.second[h, r, to].item() for r in range(layer.first.shape[1]))


def by_loops(layer, row: str, x, ctx: Context):
    """(B,T,D) one score at a time."""
    heads = lambda y: y.unflatten(-1, (layer.n_heads, layer.head_dim))  # noqa: E731
    v, plus, out = heads(layer.value(x)), "plus" in row, torch.zeros(*x.shape[:2], layer.n_heads, layer.head_dim)
    q = heads(layer.query(x)) if layer.query is not None else v
    k = heads(layer.key(x)) if plus else v
    share = 1 / (1 + torch.exp(-layer.alpha.double())).item() if row.endswith("alpha") else None
    bias = layer.position.bias(q.transpose(1, 2), ctx).expand(len(x), -1, -1, -1)
    segments = ctx.view.segments
    for b in range(len(x)):
        for h in range(layer.n_heads):
            for at in range(T):
                scores = []
                for to in range(T):
                    score, product = synthetic(layer, row, q[b, at, h], h, at, to), (q[b, at, h] @ k[b, to, h]).item()
                    if plus:
                        score = product + score if share is None else (1 - share) * product + share * score
                    seen = ctx.view.order == FULL or to <= at
                    seen = seen and (segments is None or segments[b, at] == segments[b, to])
                    scores.append(score + bias[b, h, at, to].item() if seen else float("-inf"))
                out[b, at, h] = torch.tensor(scores).softmax(0) @ v[b, :, h]
    return layer.output(out.flatten(2))


@pytest.mark.parametrize("topology", ["encoder", "causal_decoder"])
@pytest.mark.parametrize("row", ROWS)
@torch.no_grad()
def test_as_its_formula(row, topology):
    layer = layer_of(row, topology=topology)
    x, order = torch.randn(2, T, 24), CAUSAL if topology == "causal_decoder" else FULL
    for segments in (None, packed(T, 2)[0]):
        expected = by_loops(layer, row, x, context(order, segments))
        torch.testing.assert_close(layer(x, context(order, segments)), expected, atol=1e-4, rtol=1e-4)


def full_attention_like(layer, *overrides: str):
    """Full attention with the weights that `layer` has in common with it."""
    heads = [f"attention.n_heads={layer.n_heads}", f"attention.head_dim={layer.head_dim}"]
    model = tiny("topology=encoder", *heads, *overrides)
    full = model.topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    full.load_state_dict({name: value for name, value in layer.state_dict().items() if name in full.state_dict()})
    return full


@pytest.mark.parametrize("position", ["relative_bias", "rope", "contextual", "relative_representation", "none"])
@pytest.mark.parametrize("row", ["dense_plus", "random_plus"])
@torch.no_grad()
def test_plus_nothing_is_full_attention(row, position):
    layer, x = layer_of(row, f"position={position}"), torch.randn(2, T, 24)
    full = full_attention_like(layer, f"position={position}")
    assert not torch.allclose(layer(x, context()), full(x, context()), atol=1e-3)
    layer.table.zero_()
    torch.testing.assert_close(layer(x, context()), full(x, context()), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_alpha_leads_from_full_attention_to_synthetic_scores_alone():
    layer, alone, x = layer_of("random_plus_alpha"), layer_of("random"), torch.randn(2, T, 24)
    alone.load_state_dict({name: value for name, value in layer.state_dict().items() if name in alone.state_dict()})
    full = full_attention_like(layer)
    for alpha, other in ((-40.0, full), (40.0, alone)):
        layer.alpha.fill_(alpha)
        torch.testing.assert_close(layer(x, context()), other(x, context()), atol=1e-5, rtol=1e-4)


def test_alpha_starts_at_equal_shares():
    for name in ("dense_plus_alpha", "random_plus_alpha"):
        layer = tiny(f"attention=synthesizer_{name}").topology.decoder.stack.blocks[1].steps[0].sublayers[0]
        assert layer.alpha.sigmoid().item() == 0.5


@torch.no_grad()
def test_factors_by_query_are_a_table_of_low_rank():
    layer, random, x = layer_of("factorized_by_query"), layer_of("random"), torch.randn(2, T, 24)
    random.load_state_dict({n: v for n, v in layer.state_dict().items() if n not in ("first", "second")}, strict=False)
    random.table.copy_(layer.first.transpose(-1, -2) @ layer.second)
    torch.testing.assert_close(layer(x, context()), random(x, context()), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_factors_as_they_were_run_know_no_query():
    layer = layer_of("factorized")
    scores = layer.synthesize(None, T)
    assert torch.equal(scores, scores[:, :, :1].expand_as(scores))
    assert not torch.equal(*(layer_of("factorized_by_query").synthesize(None, T)[:, :, at] for at in (0, 1)))


def test_dropout_is_each_examples_own():
    layer = layer_of("random", "dropout=0.5").train()
    x = torch.randn(1, T, 24).expand(2, -1, -1)
    one, other = layer(x, context())
    assert not torch.equal(one, other)


def test_a_sequence_longer_than_the_tables():
    with pytest.raises(UserError, match="longer than attention.max_length=8"):
        layer_of("dense", "attention.max_length=8", "objective.length=8")(torch.randn(2, T, 24), context())
    with pytest.raises(UserError, match="objective.length=16 is longer than attention.max_length=8"):
        tiny("attention=synthesizer_random", "attention.max_length=8")


def test_a_decoder_that_is_shorter_than_the_tables_trains_their_corner():
    model = tiny("attention=synthesizer_random")
    model(batch_for(model))[0].backward()
    for stack, length in (("encoder", 16), ("decoder", 12)):
        table = getattr(model.topology, stack).stack.blocks[0].steps[0].sublayers[0].table
        assert table.shape[-2:] == (16, 16)
        assert table.grad[:, :length, :length].any() and not table.grad[:, length:].any()


def test_eight_heads_of_128_and_common_cross_attention_at_the_papers_shape():
    for name in ("dense", "factorized", "random_plus_alpha"):
        model = build_model(compose(["shape=paper", f"attention=synthesizer_{name}"]), device="meta")
        own, cross, _ = (step.sublayers[0] for step in model.topology.decoder.stack.blocks[0].steps)
        assert (own.n_heads, own.head_dim, own.max_length) == (8, 128, 512)
        assert (cross.n_heads, cross.head_dim) == (12, 64)


def test_heads_that_do_not_come_out():
    with pytest.raises(UserError, match="2/3 of shape.n_heads = 4 is 2.66667, and must be whole"):
        compose(["attention=synthesizer_dense", "shape.n_heads=4"])
