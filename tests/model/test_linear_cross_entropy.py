"""The loss in chunks of tokens: the plain loss and its gradients, whatever terms it has and whatever the matrix is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ablate.config import compose
from ablate.cost import cost
from ablate.model import head as heads
from ablate.model import linear_cross_entropy as chunked
from ablate.model.linear_cross_entropy import FROM_LOGITS, linear_cross_entropy
from tests.model.tiny import batch_for, overrides, set_all, tiny

REPORTS = Path(__file__).parents[2] / "reports"
SOFTMAX = {
    "tied": [],
    "untied": ["embedding.tie=[]"],
    "untied with a bias": ["embedding.tie=[]", "bias=all", "bias.logits=true"],
    "tied with a bias": ["bias=all", "bias.logits=true"],
    "factorized": ["embedding=factorized"],
    "smoothed": ["head.label_smoothing=0.1", "head.z_loss=0.01"],
    "without z-loss": ["head.z_loss=0.0"],
    "capped": ["head.soft_cap=1.5", "head.logit_scale=2.0", "head.label_smoothing=0.1", "head.z_loss=0.01"],
    "scaled with a bias": ["head.logit_scale=0.5", "bias.logits=true"],
    "narrow": ["embedding=projected"],
    "transformed": ["topology=encoder", "head=transformed_softmax", "embedding=projected", "bias.logits=true"],
    "causal": ["topology=causal_decoder"],
    "encoder": ["topology=encoder"],
}
OWN_FORM = [["head=adaptive_softmax"], ["head=mixture_of_softmaxes"], ["embedding=clusters"]]


@pytest.fixture
def in_chunks(monkeypatch):
    """Call it to have losses made in chunks of so many logits, of models as small as these."""

    def switch(logits: int = 192 * 5) -> list[int]:
        calls: list[int] = []
        monkeypatch.setattr(heads, "FROM_LOGITS", 1)
        monkeypatch.setattr(chunked, "CHUNK_LOGITS", {"cpu": logits, "cuda": logits})
        for name in ("linear_cross_entropy", "linear_nll"):
            plain = getattr(chunked, name)
            counted = lambda *given, _plain=plain, **more: calls.append(1) or _plain(*given, **more)  # noqa: E731
            monkeypatch.setattr(heads, name, counted)
        return calls

    return switch


def losses(model, batch):
    """The loss, each token's nll, and the gradient of every parameter."""
    model.zero_grad()
    loss, nll = model.train()(batch)
    (3 * loss).backward()
    return loss.detach(), nll.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", SOFTMAX.values(), ids=SOFTMAX)
def test_the_plain_loss(options, padded, in_chunks):
    model = tiny(*options)
    set_all(model, (0.2,))
    batch = batch_for(model, padded=padded)
    plain = losses(model, batch)
    with torch.no_grad():
        exact = model.eval()(batch)
    calls = in_chunks()
    torch.testing.assert_close(losses(model, batch), plain, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(batch), exact, atol=1e-5, rtol=1e-5)
    assert len(calls) == 2


@pytest.mark.parametrize("options", OWN_FORM, ids=" ".join)
def test_what_has_a_form_of_its_own_keeps_it(options, in_chunks):
    model = tiny(*options)
    batch = batch_for(model)
    plain = losses(model, batch)
    calls = in_chunks()
    torch.testing.assert_close(losses(model, batch), plain, atol=0, rtol=0)
    assert not calls


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("numbers", [{}, {"z_loss": 0.1}, {"label_smoothing": 0.2, "z_loss": 0.05}], ids=str)
def test_gradcheck(numbers, biased, weighted, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK_LOGITS", {"cpu": 7 * 4})
    generator = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randn(*size, generator=generator, dtype=torch.float64)  # noqa: E731
    hidden, matrix = draw(2, 5, 3).requires_grad_(), draw(7, 3).requires_grad_()
    bias = draw(7).requires_grad_() if biased else None
    targets = torch.randint(0, 7, (2, 5), generator=generator)
    weights = draw(2, 5).abs() if weighted else None
    of = lambda *inputs: linear_cross_entropy(*inputs, targets, weights, **numbers)[0]  # noqa: E731
    assert torch.autograd.gradcheck(of, (hidden, matrix, bias))


def test_in_bfloat16_as_close_to_float32_as_the_plain_loss(in_chunks):
    model = tiny("topology=causal_decoder")
    set_all(model, (0.2,))
    batch = batch_for(model)
    exact = losses(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        plain = losses(model, batch)
        calls = in_chunks()
        found = losses(model, batch)
    assert calls and found[0].dtype == found[1].dtype == torch.float32
    error = lambda of: torch.cat([(of[2][name] - exact[2][name]).flatten() for name in exact[2]]).norm()  # noqa: E731
    assert error(found) < 1.2 * error(plain)
    assert (found[1] - exact[1]).norm() < 1.2 * (plain[1] - exact[1]).norm()


def test_compiles_whole(in_chunks):
    model = tiny("topology=causal_decoder", "head.label_smoothing=0.1")
    batch = batch_for(model, padded=True)
    plain = losses(model, batch)
    in_chunks()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(losses(compiled, batch)[:2], plain[:2], atol=1e-5, rtol=1e-5)
    for parameter, gradient in zip(model.parameters(), plain[2].values(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_it_keeps_no_tensor_of_all_logits(in_chunks):
    model = tiny("topology=causal_decoder")
    batch = batch_for(model)
    in_chunks()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        model.train()(batch)
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    table = model.head.embedding.table.shape
    large = [t.shape for t in kept if t.shape[-1:] == table[:1] and t.data_ptr() not in parameters]
    assert kept and not large


def test_no_committed_record_reaches_it():
    """Their losses stay what they were to the last bit."""
    shapes = set()
    for records in REPORTS.glob("*/records.jsonl"):
        for line in records.read_text().splitlines():
            given = json.loads(line).get("overrides") or []
            shapes.add(tuple(one for one in given if one.startswith(("shape", "trainer.global_batch_tokens"))))
    assert len(shapes) > 3
    for shape in shapes:
        cfg = compose([*shape, "trainer=cpu"])
        assert cfg.shape.vocab_size * cfg.trainer.global_batch_tokens < FROM_LOGITS, shape


def test_counted_as_the_plain_loss(monkeypatch):
    cfg = compose(overrides("topology=causal_decoder"))
    plain = cost(cfg)
    monkeypatch.setattr(heads, "FROM_LOGITS", 1)
    assert cost(cfg) == plain
