"""The held-out loss by hand: which targets count, over processes, bytes, and a request to stop."""

import dataclasses
import math

import pytest
import torch

from ablate.config import compose
from ablate.evaluation import heldout
from ablate.evaluation.contract import StopRequested, evaluating
from tests.evaluation.test_by_position import LOSSES, WEIGHTS, Given, batch, context

CPU = torch.device("cpu")
BYTES = torch.tensor([3, 5])


def found(batches, **options):
    return heldout.heldout_loss(Given(), batches, BYTES, CPU, **options)


def test_every_target_counts_once():
    loss = found([batch([0, 1]), batch([2])])
    assert loss.loss == pytest.approx(LOSSES.mean().item()) and (loss.tokens, loss.bytes) == (15, 45)
    assert loss.bits_per_byte == pytest.approx(LOSSES.sum().item() / math.log(2) / 45)


def test_targets_without_weight_do_not_count_and_others_count_once():
    loss = found([batch([0, 1, 2], WEIGHTS)])
    counts = WEIGHTS > 0
    assert loss.tokens == counts.sum() == 13 and loss.bytes == 39
    assert loss.loss == pytest.approx((LOSSES * counts).sum().item() / 13)


def test_processes_add_up():
    assert found([batch([0])], reduce=lambda sums: 2 * sums) == dataclasses.replace(
        found([batch([0])]), tokens=10, bytes=30
    )


def test_targets_without_text_have_no_bits():
    loss = heldout.heldout_loss(Given(), [batch([0])], torch.zeros(2), CPU)
    assert loss.bits_per_byte is None and list(loss.scores()) == ["loss"]


def test_the_scores_say_what_they_are():
    scores = found([batch([0])]).scores()
    assert {name: (score.unit, score.higher_is_better, score.items) for name, score in scores.items()} == {
        "loss": ("nats a token", False, 5),
        "bits_per_byte": ("bits a byte", False, 15),
    }
    assert scores["loss"].value == pytest.approx(LOSSES[0].mean().item())


def test_a_request_to_stop_is_honoured_before_every_batch():
    asked = iter([False, True])
    assert found([batch([0]), batch([1])], stop=lambda: next(asked)) is None
    evaluation = heldout.HeldOut(tokens=64, seed=1)
    corpus = type("Corpus", (), {"token_bytes": BYTES.numpy(), "tokenizer": "its own"})()
    with pytest.raises(StopRequested):
        evaluation.evaluate(Given(), context([batch([0])], stop=lambda: True, corpus=corpus))
    scores = evaluation.evaluate(Given(), context([batch([0])], corpus=corpus))
    assert scores == found([batch([0])]).scores()
    assert context([], corpus=corpus).tokenizer == "its own"


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_comes_back_even_after_an_error(mode):
    model = torch.nn.Dropout().train(mode)
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not model.training and not torch.is_grad_enabled()
        _ = 1 / 0
    assert model.training == mode and torch.is_grad_enabled()


@pytest.mark.parametrize(("objective", "is_text"), [("causal", True), ("recall", False)])
def test_made_up_targets_have_no_bits(objective, is_text):
    corpus = type("Corpus", (), {"token_bytes": BYTES.numpy()})()
    given = context([batch([0])], corpus=corpus, config=compose(["topology=causal_decoder", f"objective={objective}"]))
    scores = heldout.HeldOut(tokens=64, seed=1).evaluate(Given(), given)
    assert list(scores) == (["loss", "bits_per_byte"] if is_text else ["loss"])
