"""The loss of the reference answers: how likely a model finds them, whatever it writes itself.

It tells models apart that write nothing right. A token of an answer counts as in training: an example with several
answers has the mean over them, so that it weighs as much as one with a single answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.evaluation.likelihood import Question, Scorer
from ablate.fine_tuning.encoding import Encoded
from ablate.fine_tuning.forms import Form
from ablate.run.score import Score
from ablate.tasks.example import Example
from ablate.tasks.metrics import resampling


@dataclass(frozen=True)
class Answered:
    """The answers of an example: log p(answer | input) in nats, and tokens, with the end-of-sequence, of each."""

    log_likelihoods: tuple[float, ...]
    tokens: tuple[int, ...]


def answered(scorer: Scorer, form: Form, examples: Sequence[Encoded]) -> list[Answered]:
    """Ask for every answer of every example; of several processes each asks a share, and all get all."""
    questions = [
        Question(form.question(example.inputs), tuple(target.tolist()))
        for example in examples
        for target in example.targets
    ]
    found = iter(scorer(questions))
    return [
        Answered(
            tuple(next(found).log_likelihood for _ in example.targets), tuple(len(target) for target in example.targets)
        )
        for example in examples
    ]


@dataclass(frozen=True)
class Losses:
    """What items add to the loss: its mean over them is the loss in nats a token of all their answers together.

    values: by the item's id; items whose answer is not the right one, such as the wrong referents of WSC, have none.
    log_likelihoods: of all answers of an item.
    """

    values: Mapping[str, float]
    log_likelihoods: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, ids: Sequence[str], examples: Sequence[Example], answers: Sequence[Answered]) -> Losses:
        """The losses of the items with these ids, each of which is an example or a group of them."""
        known = set(ids)
        nats: dict[str, float] = {}
        listed: dict[str, tuple[float, ...]] = {}
        tokens = 0.0
        for example, one in zip(examples, answers, strict=True):
            item = example.id if example.id in known else example.group
            listed[item] = listed.get(item, ()) + one.log_likelihoods
            if example.is_trained_on:
                nats[item] = nats.get(item, 0.0) - float(np.mean(one.log_likelihoods))
                tokens += float(np.mean(one.tokens))
        return cls({item: len(nats) * value / tokens for item, value in nats.items()}, listed)

    def score(self, source: Mapping[str, object]) -> Score | None:
        """The loss as a score; None where no item has one."""
        if not self.values:
            return None
        values = [*self.values.values()]
        return Score(
            math.fsum(values) / len(values),
            "nats a token",
            higher_is_better=False,
            items=len(values),
            standard_error=resampling.of_mean(values),
            source={**source, "scorer": "log-likelihood of the reference answers"},
        )
