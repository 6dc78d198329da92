"""Adaptive softmax and mixture of softmaxes: against torch's own, formulas by hand, and what training leaves out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from ablate.config import build_model, check_parts, compose
from ablate.errors import UserError
from tests.model.tiny import SHAPE, batch_for, overrides, set_all, tiny, train_step

V, D = SHAPE["vocab_size"], SHAPE["d_model"]
B, T = 3, 16
TOPOLOGIES = ["encoder_decoder", "causal_decoder", "prefix_decoder", "encoder"]
ADAPTIVE = [["head=adaptive_softmax"], ["head=adaptive_softmax", "embedding=clusters_no_projection"]]
MIXTURE = ["head=mixture_of_softmaxes", "head.n_softmaxes=3"]


def head_of(*given: str, scale: float = 0.5):
    head = tiny(*given).head
    set_all(head, (scale,))
    return head


def hidden_and_targets(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets in all clusters: frequent, middling, rare and special ids."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, V, (B, T), generator=generator)
    targets[0, :12] = torch.tensor([0, 4, 5, 16, 17, 63, 64, 191, 6, 7, 8, 9])
    return torch.randn(B, T, D, generator=generator) * 3, targets


def picked(log_probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return log_probabilities.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(
    "given", [*ADAPTIVE, MIXTURE, [*MIXTURE, "embedding=clusters"], [*MIXTURE, "embedding.tie=[]"]], ids=" ".join
)
def test_probabilities_sum_to_one_and_are_the_likelihood(given):
    head = head_of(*given).eval()
    hidden, targets = hidden_and_targets()
    log_probabilities = head.logits(hidden)
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(B, T))
    loss, nll = head(hidden, targets)
    torch.testing.assert_close(nll, -picked(log_probabilities, targets), atol=1e-5, rtol=1e-5)
    assert torch.equal(loss, nll)


# Adaptive softmax


def test_adaptive_softmax_is_torchs():
    head = head_of("head=adaptive_softmax", "embedding.special_apart=false").eval()
    clusters, sizes = head.embedding.clusters, head.embedding.sizes
    torchs = nn.AdaptiveLogSoftmaxWithLoss(D, V, [sizes[0], sizes[0] + sizes[1]], div_value=3.0)
    with torch.no_grad():
        torchs.head.weight.copy_(torch.cat([clusters[0].table, head.entries]))
        for tail, cluster in zip(torchs.tail, clusters[1:], strict=True):
            tail[0].weight.copy_(cluster.up)
            tail[1].weight.copy_(cluster.table)
    hidden, targets = hidden_and_targets()
    scaled = (hidden * head.tied_scale).flatten(0, 1)
    torch.testing.assert_close(head.logits(hidden).flatten(0, 1), torchs.log_prob(scaled))
    torch.testing.assert_close(head(hidden, targets)[1].flatten(), -torchs(scaled, targets.flatten()).output)


def training_loss_by_hand(head, hidden, targets, weights) -> torch.Tensor:
    """The scalar loss, cluster by cluster and token by token."""
    hidden, sizes, starts = hidden * head.tied_scale, head.embedding.sizes, head.embedding.starts
    slots = math.ceil(head.slots * T)

    def term(logits, label):
        normaliser = logits.logsumexp(-1)
        return normaliser - logits[label] + head.z_loss * normaliser**2

    total = 0.0
    for b in range(B):
        taken = [0] * len(sizes)
        for t in range(T):
            at = max(i for i, start in enumerate(starts) if targets[b, t] >= start)
            first = torch.cat([head.embedding.clusters[0].logits(hidden[b, t]), head.entries @ hidden[b, t]])
            total += weights[b, t] * term(first, targets[b, t] if at == 0 else sizes[0] + at - 1) / (B * T)
            if at and weights[b, t] and taken[at] < slots:
                taken[at] += 1
                logits = head.embedding.clusters[at].logits(hidden[b, t])
                total += weights[b, t] * term(logits, targets[b, t] - starts[at]) / (B * slots)
    return total


@pytest.mark.parametrize("given", ADAPTIVE)
@pytest.mark.parametrize("slots", [0.1, 0.25, 1.0])
def test_training_takes_the_first_tokens_of_each_cluster(given, slots):
    head = head_of(*given, f"head.slots={slots}", "head.z_loss=0.01").train()
    hidden, targets = hidden_and_targets()
    weights = (torch.rand(B, T, generator=torch.Generator().manual_seed(1)) > 0.3).float()
    for given_weights in (None, weights):
        used = torch.ones(B, T) if given_weights is None else weights
        loss, _ = head(hidden, targets, given_weights)
        expected = training_loss_by_hand(head, hidden, targets, used)
        torch.testing.assert_close((loss * used).mean(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("given", ADAPTIVE)
def test_with_a_slot_for_each_token_training_is_exact(given):
    head = head_of(*given, "head.slots=1.0", "head.z_loss=0.0").train()
    hidden, targets = hidden_and_targets()
    loss, nll = head(hidden, targets)
    exact = -picked(head.logits(hidden), targets)
    torch.testing.assert_close(loss, exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(nll, exact, atol=1e-5, rtol=1e-5)


def test_in_training_the_likelihood_of_surplus_tokens_is_that_of_their_cluster():
    head = head_of("head=adaptive_softmax", "head.slots=0.0625").train()
    hidden, targets = hidden_and_targets()
    targets[0, :3] = torch.tensor([20, 21, 3])  # one slot: the second has none
    nll = head(hidden, targets)[1]
    exact = head.eval()(hidden, targets)[1]
    torch.testing.assert_close(nll[0, [0, 2]], exact[0, [0, 2]])
    assert nll[0, 1] < exact[0, 1]


def test_a_token_of_weight_zero_takes_no_slot():
    head = head_of("head=adaptive_softmax", "head.slots=0.0625").train()
    hidden, targets = hidden_and_targets()
    targets[:, :2] = 20
    weights = torch.ones(B, T)
    weights[:, 0] = 0
    losses = []
    for other in (20, 3, 70):
        targets[:, 0] = other
        losses.append((head(hidden, targets, weights)[0] * weights).mean())
    assert losses[0] == losses[1] == losses[2]


def test_one_cluster_is_a_softmax():
    adaptive, softmax = (
        head_of("embedding=clusters", "embedding.shares=[]", f"embedding.widths=[{D}]", "embedding.special=0", *more)
        for more in (["head=adaptive_softmax"], [])
    )
    softmax.load_state_dict({name: v for name, v in adaptive.state_dict().items() if name != "entries"})
    hidden, targets = hidden_and_targets()
    for train in (True, False):
        found, expected = (head.train(train)(hidden, targets) for head in (adaptive, softmax))
        torch.testing.assert_close(found, expected)


def test_training_computes_rare_clusters_for_slots_alone():
    head = head_of("head=adaptive_softmax").train()
    lengths = []
    for cluster in head.embedding.clusters:
        logits = cluster.logits
        cluster.logits = lambda hidden, logits=logits: (lengths.append(hidden.shape[1]), logits(hidden))[1]
    head(*hidden_and_targets())
    assert lengths == [T, 4, 4, 4]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_an_adaptive_model_trains(topology):
    """With targets in all clusters every row of them has an influence, packed or not."""
    for padded in (False, True):
        model = tiny("head=adaptive_softmax", f"topology={topology}")
        batch = batch_for(model, padded=padded)
        assert torch.isfinite(train_step(model, batch))
        tables = [cluster.table.grad for cluster in model.head.embedding.clusters]
        assert all(table.abs().max() > 0 for table in [*tables, model.head.entries.grad])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["head=adaptive_softmax", "embedding=table"],
         "built on the clusters of an embedding, and embedding=table has none; choose embedding=clusters or"),
        (["head=adaptive_softmax", "embedding.tie=[]"], "embedding.tie must name decoder and head"),
        (["head=adaptive_softmax", "embedding.tie=[encoder,head]"], "embedding.tie must name decoder and head"),
        (["head=adaptive_softmax", "topology=encoder", "embedding.tie=[decoder,head]"], "must name encoder and head"),
        (["head=adaptive_softmax", "bias.logits=true"], "set bias.logits=false"),
        (["head=adaptive_softmax", "head.slots=1.5"], "head.slots=1.5: must be above 0 and at most 1"),
        (["head=adaptive_softmax", "head.label_smoothing=0.1"], "no key 'head.label_smoothing'"),
        (["head=mixture_of_softmaxes", "head.z_loss=0.1"], "no key 'head.z_loss'"),
    ],
)  # fmt: skip
def test_refusals(given, message):
    with pytest.raises(UserError, match=message):
        build_model(compose(overrides(*given)), device="meta")


def test_the_command_line_chooses_among_clusters():
    cfg = compose(["head=adaptive_softmax", "embedding=clusters_no_projection"])
    check_parts(cfg)
    assert cfg.embedding.special_apart and set(cfg.embedding.widths) == {48}


# Mixture of softmaxes


def test_mixture_by_hand():
    head = head_of(*MIXTURE).double()
    hidden, targets = hidden_and_targets()
    h = hidden.double() * head.scale
    prior = (h @ head.prior.T).softmax(-1)
    each = [(torch.tanh(h @ context) @ head.embedding.table.T).softmax(-1) for context in head.contexts]
    mixed = sum(prior[..., k, None] * part for k, part in enumerate(each))
    loss, nll = head(hidden.double(), targets)
    torch.testing.assert_close(nll, -picked(mixed.log(), targets).float(), atol=1e-6, rtol=1e-5)
    assert torch.equal(loss, nll)  # normalised: a z-loss would be zero


def test_one_softmax_in_the_mixture_is_a_softmax_of_its_context():
    mixture, softmax = head_of("head=mixture_of_softmaxes", "head.n_softmaxes=1"), head_of("head.tied_scale=1.0")
    softmax.load_state_dict({"embedding.table": mixture.embedding.table})
    hidden, targets = hidden_and_targets()
    context = torch.tanh(hidden * mixture.scale @ mixture.contexts[0])
    torch.testing.assert_close(mixture(hidden, targets)[1], softmax.eval()(context, targets)[1])


def test_equal_softmaxes_mix_to_one():
    mixture = head_of(*MIXTURE)
    with torch.no_grad():
        mixture.contexts.copy_(mixture.contexts[0].expand_as(mixture.contexts))
    hidden, targets = hidden_and_targets()
    logits = mixture.vocabulary(torch.tanh(hidden * mixture.scale @ mixture.contexts[0]))
    torch.testing.assert_close(mixture(hidden, targets)[1], functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none").view(B, T))  # fmt: skip


@pytest.mark.parametrize("given", [[], ["embedding.tie=[]"], ["bias.logits=true"], ["embedding=factorized"]])
def test_recomputing_changes_nothing(given):
    gradients = []
    for recompute in ("true", "false"):
        model = tiny(*MIXTURE, f"head.recompute={recompute}", *given)
        loss = train_step(model, batch_for(model))
        gradients.append([loss, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("recompute", "kept"), [("true", 0), ("false", 3)])
def test_the_logits_of_no_softmax_are_kept(recompute, kept):
    head = head_of(*MIXTURE, f"head.recompute={recompute}")
    saved = {}

    def pack(tensor):
        if tensor.shape[-1:] == (V,) and tensor.numel() == B * T * V:
            saved[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = head(*hidden_and_targets())
    assert len(saved) == kept
    loss.mean().backward()
    assert head.contexts.grad.abs().max() > 0


def test_the_papers_numbers():
    head = build_model(compose(["shape=paper", "head=mixture_of_softmaxes"]), device="meta").head
    assert head.prior.shape == (15, 768) and head.contexts.shape == (15, 768, 768)
    adaptive = build_model(compose(["shape=paper", "head=adaptive_softmax"]), device="meta").head
    assert math.ceil(adaptive.slots * 114) == 29
