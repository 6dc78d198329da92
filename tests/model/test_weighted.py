"""The Weighted Transformer's branches."""

from __future__ import annotations

import pytest
import torch

from ablate.config import compose
from ablate.model.contract import FULL, Context, View
from ablate.model.weighted import on_simplex
from tests.model.tiny import batch_for, packed, set_all, tiny, train_step

T = 10


def layer_of(*overrides: str, **shape: int):
    model = tiny("attention=weighted", "topology=encoder", *overrides, **shape)
    set_all(model, (0.4,))
    return model.topology.encoder.stack.blocks[0].steps[0].sublayers[0]


def context(segments: torch.Tensor | None = None) -> Context:
    return Context(View(ids=torch.ones(2, T, dtype=torch.long), order=FULL, segments=segments))


@pytest.mark.parametrize("bias", ["paper", "all"])
@pytest.mark.parametrize("simplex", ["false", "true"])
@torch.no_grad()
def test_as_its_formula(bias, simplex):
    layer, x = layer_of(f"bias={bias}", f"attention.simplex={simplex}", "activation=geglu"), torch.randn(2, T, 24)
    kappa, alpha = layer.kappa, layer.alpha
    if simplex == "true":
        kappa, alpha = (z.clamp_min(0) / (z.clamp_min(0) + 1e-4).sum() for z in (kappa, alpha))
    for segments in (None, packed(T, 2)[0]):
        ctx, expected = context(segments), 0.0
        heads = lambda y: y.unflatten(-1, (4, 6))  # noqa: E731
        q, k, v = heads(layer.query(x)), heads(layer.key(x)), heads(layer.value(x))
        bias_of = layer.position.bias(q.transpose(1, 2), ctx)
        for h in range(4):
            scores = q[:, :, h] @ k[:, :, h].transpose(1, 2) + bias_of[0, h]
            if segments is not None:
                scores = scores.masked_fill(segments[:, :, None] != segments[:, None], -1e9)
            head = scores.softmax(-1) @ v[:, :, h]
            branch = kappa[h] * (head @ layer.output.weight[:, h * 6 : (h + 1) * 6].T)
            if bias == "all":
                branch = branch + layer.output.bias
            expected = expected + alpha[h] * layer.feedforward(branch, ctx)
        torch.testing.assert_close(layer(x, ctx), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_one_head_of_weight_one_is_attention_and_then_the_feedforward():
    layer, x = layer_of(n_heads=1, head_dim=24), torch.randn(2, T, 24)
    layer.kappa.fill_(1.0)
    layer.alpha.fill_(1.0)
    model = tiny("topology=encoder", n_heads=1, head_dim=24)
    full = model.topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    full.load_state_dict({name: value for name, value in layer.state_dict().items() if name in full.state_dict()})
    expected = layer.feedforward(full(x, context()), context())
    torch.testing.assert_close(layer(x, context()), expected, atol=1e-5, rtol=1e-4)


def test_on_the_simplex():
    weights = on_simplex(torch.tensor([0.5, -1.0, 1.5]))
    torch.testing.assert_close(weights, torch.tensor([0.25, 0.0, 0.75]), atol=1e-3, rtol=0)
    assert weights.sum() < 1 and torch.isfinite(on_simplex(-torch.ones(3))).all()


def test_a_block_has_no_feedforward_of_its_own():
    assert compose(["attention=weighted"]).block.sublayers == {
        "encoder": ["self_attention"], "decoder": ["self_attention", "cross_attention"]}  # fmt: skip
    model = tiny("attention=weighted")
    steps = model.topology.decoder.stack.blocks[0].steps
    assert [type(step.sublayers[0]).__name__ for step in steps] == ["Weighted", "Weighted"]
    assert steps[0].sublayers[0].feedforward is not steps[1].sublayers[0].feedforward


def test_branches_start_between_zero_and_one():
    model = tiny("attention=weighted")
    layers = [step.sublayers[0] for block in model.topology.decoder.stack.blocks for step in block.steps]
    values = torch.cat([weights.detach() for layer in layers for weights in (layer.kappa, layer.alpha)])
    assert len(values) == 32 and 0 <= values.min() < 0.2 and 0.8 < values.max() <= 1


@pytest.mark.parametrize("feedforward", ["mixture_of_experts", "switch", "product_key_memory"])
def test_through_other_feedforwards(feedforward):
    """Each head is a row of its own for what groups or pads tokens."""
    model = tiny("attention=weighted", f"feedforward={feedforward}")
    for padded in (False, True):
        assert torch.isfinite(train_step(model, batch_for(model, padded=padded)))
