"""Judging a model on a task: its outputs, and what the task's own metric makes of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ablate.data.tokenizer_backends import Tokenizer
from ablate.evaluation import decoding
from ablate.evaluation.contract import Context
from ablate.fine_tuning.forms import Form
from ablate.fine_tuning.reference import Answered, Losses
from ablate.model.build import Model
from ablate.run.outcomes import Item, Outcomes
from ablate.run.score import Score
from ablate.tasks.example import Example, Judged
from ablate.tasks.task import Task

UNIT = "%"


@dataclass(frozen=True)
class Writer:
    """Writes the outputs of a model: greedily with one beam, else by beam search with `length_penalty`.

    length: the most ids of an output. sequences: inputs that are read at once.
    """

    form: Form
    tokenizer: Tokenizer
    eos_id: int
    length: int
    beams: int
    length_penalty: float
    sequences: int

    def outputs(
        self, model: Model, inputs: Sequence[np.ndarray], context: Context, between: Callable[[int, int], None]
    ) -> list[str]:
        """The text for each input; several processes write a share each, and all get all of them.

        between: called before each group of inputs with the number of those before it, and of all of them.
        """
        order = sorted(range(len(inputs)), key=lambda number: (-len(inputs[number]), number))  # little padding
        groups = [order[start : start + self.sequences] for start in range(0, len(order), self.sequences)]
        ids = torch.zeros(len(inputs), self.length, dtype=torch.long, device=context.device)
        for number in range(context.rank, len(groups), context.world_size):
            group = groups[number]
            between(number * self.sequences, len(inputs))
            ids[torch.tensor(group, device=ids.device)] = self._written(model, [inputs[n] for n in group], context)
        return [self._text(row) for row in context.total(ids).tolist()]

    def _written(self, model: Model, inputs: Sequence[np.ndarray], context: Context) -> torch.Tensor:
        batch = context.on_device(self.form.prompt(inputs))
        ends: dict[str, Any] = {"padding": self.form.pad_id, "end": self.eos_id}
        with context.autocast():
            if self.beams == 1:
                return decoding.greedy(model, batch, self.length, **ends)
            return decoding.beam_search(model, batch, self.length, beams=self.beams, alpha=self.length_penalty, **ends)

    def _text(self, ids: list[int]) -> str:
        end = ids.index(self.eos_id) if self.eos_id in ids else len(ids)
        return self.tokenizer.decode([one for one in ids[:end] if one != self.form.pad_id])


@dataclass(frozen=True)
class Names:
    """What a task's scores are called: the official one, those of further metrics, the loss of its answers."""

    official: str
    metrics: Mapping[str, str]
    loss: str


def judged(
    task: Task,
    names: Names,
    examples: Sequence[Example],
    outputs: Sequence[str],
    answers: Sequence[Answered],
    *,
    chance: float,
    key: str,
    source: Mapping[str, Any],
) -> Outcomes:
    """The outcome of each item and the scores of the task; `answers`: how likely the model finds the references."""
    found = task.judge(examples, outputs)
    losses = Losses.of(found.ids, examples, answers)
    value = names.official
    is_mean = math.isclose(100 * math.fsum(found.items) / len(found.items), found.value, abs_tol=1e-9)
    items = []
    for name, right in zip(found.ids, found.items, strict=True):
        values = {value: 100 * right} if is_mean else {}
        if name in losses.values:
            values[names.loss] = losses.values[name]
        items.append(Item(name, right, losses.log_likelihoods[name], values))
    scores = {value: _score(found.value, found, source, found.standard_error, chance)}
    for metric, name in names.metrics.items():
        if name != value:
            scores[name] = _score(found.metrics[metric], found, {**source, "metric": metric}, None, None)
    if loss := losses.score(source):
        scores[names.loss] = loss
    return Outcomes(task.name, key, tuple(items), scores)


def with_losses(found: Outcomes, other: Outcomes, loss: str) -> Outcomes:
    """The outcomes with the loss of the reference answers, and all that it is of, as in those of another step."""
    if loss not in found.scores:
        return found
    items = tuple(
        dataclasses.replace(
            item, log_likelihoods=its.log_likelihoods, values={**item.values, **_only(its.values, loss)}
        )
        for item, its in zip(found.items, other.items, strict=True)
    )
    return dataclasses.replace(found, items=items, scores={**found.scores, loss: other.scores[loss]})


def _only(values: Mapping[str, float], name: str) -> dict[str, float]:
    return {name: values[name]} if name in values else {}


def _score(value: float, found: Judged, source: Mapping[str, Any], error: float | None, chance: float | None) -> Score:
    return Score(
        value,
        UNIT,
        higher_is_better=True,
        items=len(found.items),
        standard_error=error,
        chance=chance,
        source={**source, "scorer": found.scorer},
    )
