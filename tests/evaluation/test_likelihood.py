"""Log-likelihoods against one plain pass for each question, and against torch's own sums."""

from __future__ import annotations

import pytest
import torch
from lm_eval import utils

from ablate.data.prompt import Prompt
from ablate.errors import UserError
from ablate.evaluation.likelihood import Question, Scorer, Share, rolling
from ablate.model import attention
from tests.model.tiny import SHAPE, set_all, tiny

DECODERS = ["topology=causal_decoder", "topology=prefix_decoder"]
LENGTH = 12
CASES = [
    ["topology=causal_decoder"],
    ["topology=causal_decoder", "position=rope", "norm=rmsnorm", "activation=swiglu"],
    ["topology=causal_decoder", "attention=multi_query", "position=alibi"],
    ["topology=causal_decoder", "attention=lightweight_convolution", "position=sinusoidal"],
    ["topology=causal_decoder", "head=mixture_of_softmaxes"],
    ["topology=causal_decoder", "head=adaptive_softmax", "embedding=clusters"],
    ["topology=causal_decoder", "feedforward=switch", "feedforward.experts.capacity.decoder.eval=64"],
    ["topology=prefix_decoder"],
    ["topology=prefix_decoder", "position=rope"],
    ["topology=encoder_decoder"],
    ["topology=encoder_decoder", "stack=transparent"],
]


def made(*options):
    model = tiny(*options).eval()
    set_all(model, (0.2,))
    return model


def drawn(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(2, SHAPE["vocab_size"], (n,), generator=generator).tolist()) for n in lengths]


def questions(model, contexts=(1, 4, 4, 7, 15), answers=(1, 1, 2, 5)):
    """Several answers to each of some contexts, one of which is too long; one answer alone; one twice."""
    has_encoder = "encoder" in model.topology.stacks
    found = []
    for number, context in enumerate(drawn(contexts)):
        prompt = Prompt((0, 3), context) if has_encoder else Prompt((0, *context))
        found += [Question(prompt, answer) for answer in drawn(answers, seed=number)]
    return [*found, found[2], Question(Prompt((0,), (9, 9) if has_encoder else None), (5, 6, 7))]


@torch.no_grad()
def alone(model, question, length=LENGTH):
    """The same by one pass over the question's own sequence."""
    whole = (*question.prompt.decoder, *question.answer)[-(length + 1) :]
    batch = {"decoder_ids": torch.tensor([whole[:-1]])}
    if question.prompt.encoder is not None:
        batch["encoder_ids"] = torch.tensor([question.prompt.encoder[-length:]])
    count = len(question.answer)
    if "prefix_lengths" in model.topology.reads:
        batch["prefix_lengths"] = torch.tensor([len(whole) - count])
    logits = model.logits(batch)[0, -count:].double()
    log_p = logits.log_softmax(-1).gather(1, torch.tensor(question.answer)[:, None]).sum()
    return log_p.item(), logits.argmax(-1).tolist() == list(question.answer)


@pytest.mark.parametrize("keep_keys", [True, False])
@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(options))
def test_a_batch_gives_what_each_question_gives_alone(options, keep_keys):
    model = made(*options)
    asked = questions(model)
    found = Scorer(model, length=LENGTH, batch_tokens=40, keep_keys=keep_keys)(asked)
    expected = [alone(model, question) for question in asked]
    assert [one.log_likelihood for one in found] == pytest.approx([value for value, _ in expected], abs=2e-5)
    assert [one.is_greedy for one in found] == [greedy for _, greedy in expected]


@pytest.mark.parametrize("topology", [*DECODERS, "topology=encoder_decoder"])
def test_what_the_model_would_write_is_greedy(topology):
    model = made(topology)
    prompt = Prompt((0,), (4, 5)) if "encoder" in topology else Prompt((0, 4, 5))
    best = ()
    for _ in range(4):
        scorer = Scorer(model, length=LENGTH, batch_tokens=4000)
        found = scorer([Question(prompt, (*best, token)) for token in range(SHAPE["vocab_size"])])
        (token,) = [number for number, one in enumerate(found) if one.is_greedy]
        assert sum(torch.tensor([one.log_likelihood for one in found]).exp()) <= 1 + 1e-5
        best = (*best, token)


def test_what_answers_share_is_read_once():
    model, read = made("topology=causal_decoder", "position=rope"), []
    model.topology.decoder.stack.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].shape[:2]))
    context = drawn([9])[0]
    asked = [Question(Prompt((0, *context)), answer) for answer in drawn([3, 3, 3, 3], seed=1)]
    Scorer(model, length=32, batch_tokens=400)(asked)
    assert [tuple(size) for size in read] == [(1, 10), (4, 2)]
    read.clear()
    Scorer(model, length=32, batch_tokens=400)([Question(Prompt((0, *context)), (token,)) for token in range(5)])
    assert [tuple(size) for size in read] == [(1, 10)]


def test_the_tokens_with_which_answers_begin_are_read_once():
    model, read = made("topology=causal_decoder", "position=rope"), []
    model.topology.decoder.stack.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].shape[:2]))
    asked = [Question(Prompt((0, 4, 5)), answer) for answer in ((6, 7, 8, 9, 10), (6, 7, 9, 8), (6, 7, 9), (6, 7))]
    found = Scorer(model, length=32, batch_tokens=400)(asked)
    assert [tuple(size) for size in read] == [(1, 4), (3, 3)]  # the start, 4, 5, 6; then 7 8 9, 7 9, and 7
    expected = [alone(model, question) for question in asked]
    assert [one.log_likelihood for one in found] == pytest.approx([value for value, _ in expected], abs=2e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_batches_are_cut_where_padding_would_grow(shared):
    model, read = made("topology=causal_decoder", "position=rope"), []
    model.topology.decoder.stack.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].shape[:2]))
    lengths = [400, 390, 300, 290, 40, 30, 20, 10]
    asked = [
        Question(Prompt((0, *context)), answer)
        for context in drawn([length - 1 for length in lengths])
        for answer in ((4,), (5,))[: 1 + shared]
    ]
    Scorer(model, length=512, batch_tokens=1000)(asked)
    assert [tuple(size) for size in read] == [(2, 400), (2, 300), (4, 40)]


@pytest.mark.parametrize("options", CASES, ids=lambda options: " ".join(options))
def test_the_fused_kernel_gives_the_same(options, monkeypatch):
    model = made(*options)
    asked = questions(model)
    plain = Scorer(model, length=LENGTH, batch_tokens=40)(asked)
    monkeypatch.setattr(attention, "FUSED_FROM", 0)
    found = Scorer(model, length=LENGTH, batch_tokens=40)(asked)
    assert [one.log_likelihood for one in found] == pytest.approx([one.log_likelihood for one in plain], abs=2e-5)
    assert [one.is_greedy for one in found] == [one.is_greedy for one in plain]


def test_only_reading_uses_the_fused_kernel_on_a_cpu(monkeypatch):
    model, calls, original = made("topology=causal_decoder", "position=rope"), [], attention.fused
    monkeypatch.setattr(attention, "FUSED_FROM", 0)
    monkeypatch.setattr(attention, "fused", lambda *given, **named: calls.append(1) or original(*given, **named))
    with torch.no_grad():  # as the held-out loss, whose bits are those of training
        model.logits({"decoder_ids": torch.tensor([[0, 4, 5, 6]])})
    assert not calls
    Scorer(model, length=LENGTH, batch_tokens=40)([Question(Prompt((0, 4, 5)), (6, 7))])
    assert calls


def test_single_tokens_are_read_by_plain_products(monkeypatch):
    model, queries, original = made("topology=causal_decoder"), [], attention.fused
    monkeypatch.setattr(
        attention, "fused", lambda q, *given, **named: queries.append(q.shape[2]) or original(q, *given, **named)
    )
    context = drawn([9])[0]
    Scorer(model, length=32, batch_tokens=400)([Question(Prompt((0, *context)), (token, 4)) for token in range(5)])
    assert set(queries) == {10}


def test_processes_divide_the_batches_and_get_the_same():
    model = made("topology=causal_decoder")
    asked = questions(model)
    whole = Scorer(model, length=LENGTH, batch_tokens=20)(asked)
    sums = []

    def answers(rank):
        share = Share(rank, 3, lambda tensor: sums.append(tensor) or tensor)
        return Scorer(model, length=LENGTH, batch_tokens=20, share=share)(asked)

    parts = [answers(rank) for rank in range(3)]
    assert all(any(one.log_likelihood for one in part) for part in parts)
    assert sum(sums)[:, 0].tolist() == [one.log_likelihood for one in whole]


@pytest.mark.parametrize("count", [1, 11, 12, 13, 30, 36])
def test_rolling_windows_are_those_of_lm_eval(count):
    (ids,) = drawn([count])
    windows = utils.get_rolling_token_windows([*ids], prefix_token=0, max_seq_len=LENGTH, context_len=1)
    expected = [(tuple(a), tuple(b)) for a, b in map(utils.make_disjoint_window, windows)]
    assert [(one.prompt.decoder, one.answer) for one in rolling(ids, 0, LENGTH)] == expected


def test_refusals():
    with pytest.raises(UserError, match="cannot write"):
        Scorer(made("topology=encoder"), length=LENGTH, batch_tokens=40)
    scorer = Scorer(made("topology=causal_decoder"), length=LENGTH, batch_tokens=40)
    with pytest.raises(ValueError, match="no tokens"):
        scorer([Question(Prompt((0,)), ())])
    with pytest.raises(ValueError, match="longer than the length 12"):
        scorer([Question(Prompt((0,)), (1,) * 13)])
