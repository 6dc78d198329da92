"""The loss: weights, z-loss, label smoothing, and the exact negative log-likelihood; dropout."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn import functional

from ablate.model.contract import Context, View
from tests.model.test_options import TOPOLOGIES
from tests.model.tiny import batch_for, set_all, tiny, train_step

NO_Z = "head.z_loss=0.0"


def model_and_batch(*overrides: str, padded: bool = False):
    model = tiny(*overrides)
    set_all(model, (0.3,))
    return model, batch_for(model, padded=padded)


def cross_entropy(model, batch, **options) -> torch.Tensor:
    """(B,T), by torch."""
    logits = model.logits(batch)
    return functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), reduction="none", **options).view(
        batch["targets"].shape
    )


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("tie", ["[encoder,decoder,head]", "[]"])
def test_negative_log_likelihood_is_cross_entropy(topology, tie):
    model, batch = model_and_batch(f"topology={topology}", f"embedding.tie={tie}")
    for train in (True, False):
        loss, nll = model.train(train)(batch)
        torch.testing.assert_close(nll, cross_entropy(model, batch), atol=1e-5, rtol=1e-5)
        assert nll.dtype == torch.float32 and loss.shape == ()


def test_loss_is_the_mean_where_there_are_no_weights():
    model, batch = model_and_batch(NO_Z)
    loss, nll = model.train()(batch)
    torch.testing.assert_close(loss, nll.mean())


def test_loss_weighs_each_token_and_divides_by_their_number():
    model, batch = model_and_batch(NO_Z)
    weights = torch.rand(batch["targets"].shape, generator=torch.Generator().manual_seed(0))
    loss, nll = model.train()({**batch, "weights": weights})
    torch.testing.assert_close(loss, (nll * weights).sum() / nll.numel())
    torch.testing.assert_close(nll, model(batch)[1])  # weights leave it alone


def test_a_token_of_weight_zero_leaves_no_trace():
    model, batch = model_and_batch("topology=causal_decoder")
    weights = torch.ones(batch["targets"].shape)
    weights[:, -3:] = 0
    other = batch["targets"].clone()
    other[:, -3:] = 5
    gradients = []
    for targets in (batch["targets"], other):
        train_step(model, {**batch, "targets": targets, "weights": weights})
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for one, two in zip(*gradients, strict=True):
        assert torch.equal(one, two)


def test_micro_batches_add_up():
    """The mean over micro-batches of equal size is the loss of the whole, weighted or not."""
    model, _ = model_and_batch()
    batch = batch_for(model, rows=4)
    batch["weights"] = torch.rand(batch["targets"].shape, generator=torch.Generator().manual_seed(0)) * 2
    whole = train_step(model, batch)
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    parts = []
    for rows in (slice(0, 2), slice(2, 4)):
        loss, _ = model({key: values[rows] for key, values in batch.items()})
        (loss / 2).backward()
        parts.append(loss.item())
    assert sum(parts) / 2 == pytest.approx(whole.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_label_smoothing_is_torchs(share):
    model, batch = model_and_batch(NO_Z, f"head.label_smoothing={share}")
    loss, nll = model.train()(batch)
    torch.testing.assert_close(loss, cross_entropy(model, batch, label_smoothing=share).mean())
    torch.testing.assert_close(nll, cross_entropy(model, batch))


def test_z_loss_is_added_in_training_only():
    model, batch = model_and_batch("head.z_loss=0.01")
    normaliser = model.logits(batch).logsumexp(-1)
    loss, nll = model.train()(batch)
    torch.testing.assert_close(loss, (nll + 0.01 * normaliser**2).mean())
    loss, nll = model.eval()(batch)
    torch.testing.assert_close(loss, nll.mean())


def test_the_paper_has_a_z_loss():
    assert tiny().head.z_loss == 1e-4


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_padding_and_missing_segments_stay_finite(topology):
    """A decoder's segment without any partner in the encoder, and rows of padding alone."""
    model, batch = model_and_batch(f"topology={topology}", padded=True)
    for stack in model.topology.stacks:
        batch[f"{stack}_segments"] = batch[f"{stack}_segments"].clone()
        batch[f"{stack}_segments"][0] = 0
    batch[f"{model.topology.scored}_segments"][1] = 3
    batch["weights"] = torch.ones_like(batch["weights"])
    loss = train_step(model, batch)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


# Dropout


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_dropout_acts_in_training_alone(topology):
    model, batch = model_and_batch(f"topology={topology}", "dropout=0.2", NO_Z)
    plain, _ = model_and_batch(f"topology={topology}", NO_Z)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(batch), plain.eval()(batch))
        one, two = model.train()(batch)[0], model.train()(batch)[0]
    assert one != two


def test_dropout_follows_the_generator():
    model, batch = model_and_batch("dropout=0.2")
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(train_step(model, batch).item())
    assert losses[0] == losses[1] != losses[2]


def test_dropout_stands_where_the_library_has_it():
    """At both ends of a stack, behind each sub-layer, inside the feed-forward, on the attention's weights."""
    model = tiny("dropout=0.2")
    modules = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Dropout) and module.p == 0.2
    ]
    stacks = sum(name.endswith("stack.dropout") for name in modules)
    behind = sum(bool(re.search(r"steps\.\d\.dropout$", name)) for name in modules)
    inside = sum(name.endswith("sublayers.0.dropout") for name in modules)
    assert (stacks, behind, inside, len(modules)) == (2, 10, 4, 16)
    assert model.topology.encoder.stack.blocks[0].steps[0].sublayers[0].dropout == 0.2


def test_dropout_keeps_the_mean():
    """Weights are scaled up by what is kept: over many draws the attention's output is that without dropout."""
    attention = tiny("dropout=0.3", "position=none").topology.encoder.stack.blocks[0].steps[0].sublayers[0]
    x = torch.randn(1, 6, 24, generator=torch.Generator().manual_seed(0)).expand(4000, -1, -1)
    ctx = Context(View(ids=torch.ones(4000, 6, dtype=torch.long)))
    torch.manual_seed(0)
    with torch.no_grad():
        mean = attention.train()(x, ctx).mean(0)
        exact = attention.eval()(x, Context(ctx.view))[0]
    torch.testing.assert_close(mean, exact, atol=0.05, rtol=0.1)
