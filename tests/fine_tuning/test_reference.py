"""The loss of the reference answers: what the model's own forward pass gives, a token of each answer alike."""

import numpy as np
import pytest
import torch

from ablate.config import compose
from ablate.evaluation.likelihood import Scorer
from ablate.fine_tuning.encoding import Encoded
from ablate.fine_tuning.forms import form_for
from ablate.fine_tuning.reference import Answered, Losses, answered
from ablate.tasks.example import Example
from tests.fine_tuning import tiny


@pytest.mark.parametrize("topology", tiny.TOPOLOGIES)
def test_it_is_the_loss_that_training_has(topology):
    torch.manual_seed(0)
    model = tiny.model(compose([*tiny.SHAPE, *tiny.TOPOLOGIES[topology]]))
    form = form_for(model.topology.reads, 0)
    one, other = np.array([9, 1]), np.array([11, 12, 13, 1])
    encoded = [Encoded(np.array([5, 6, 7, 8, 1]), (one, other)), Encoded(np.array([10, 1]), (other,))]
    found = answered(Scorer(model, length=16, batch_tokens=64), form, encoded)
    assert [answers.tokens for answers in found] == [(2, 4), (4,)]
    for example, answers in zip(encoded, found, strict=True):
        for target, value in zip(example.targets, answers.log_likelihoods, strict=True):
            batch = form.training([(example.inputs, target)])
            with torch.no_grad():
                _, nll = model.forward(batch)
            assert value == pytest.approx(-nll[batch["weights"] > 0].sum().item(), rel=1e-5)


def example(name, group="", *, is_trained_on=True):
    return Example(name, "", "p", "", ("a",), group=group, is_trained_on=is_trained_on)


def test_each_token_counts_alike_and_several_answers_as_one():
    answers = [Answered((-2.0, -6.0), (1, 3)), Answered((-9.0,), (4,))]  # 4 nats of 2 tokens, 9 nats of 4
    losses = Losses.of(["a", "b"], [example("a"), example("b")], answers)
    assert losses.score({}).value == pytest.approx(13 / 6)
    assert losses.values == pytest.approx({"a": 2 * 4 / 6, "b": 2 * 9 / 6})
    assert losses.log_likelihoods == {"a": (-2.0, -6.0), "b": (-9.0,)}


def test_the_items_of_a_group_are_one():
    examples = [example("q/0", "q"), example("q/1", "q"), example("r/0", "r")]
    losses = Losses.of(["q", "r"], examples, [Answered((-value,), (2,)) for value in (1.0, 2.0, 3.0)])
    assert losses.score({}).value == pytest.approx(6 / 6) and losses.score({}).items == 2
    assert losses.log_likelihoods == {"q": (-1.0, -2.0), "r": (-3.0,)}


def test_a_wrong_referent_is_no_reference():
    examples = [example("a"), example("b", is_trained_on=False)]
    losses = Losses.of(["a", "b"], examples, [Answered((-1.0,), (2,)), Answered((-9.0,), (2,))])
    assert losses.values == pytest.approx({"a": 0.5}) and losses.score({}).items == 1
    assert Losses.of(["b"], examples[1:], [Answered((-9.0,), (2,))]).score({}) is None
