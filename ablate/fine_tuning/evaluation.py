"""Fine-tuning on text-to-text tasks as an evaluation (Raffel et al. 2020; Narang et al. 2021, sections 3.2 and 3.3).

    examples -> mixture -> steps of training, the loss on the answer alone
                             | every `checkpoint_every` steps and after the last: checkpoint, outputs, losses, scores
                             best of them by the official score, of the losses by the loss -> the scores of the record

A subclass says which tasks there are, and what the score is called.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from omegaconf import DictConfig

from ablate.config import build_model, resolved
from ablate.config.batch import Share
from ablate.config.instantiation import fill
from ablate.data.tokenizer_backends import Tokenizer
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.evaluation.contract import Context, Evaluation, Partial, check_writes
from ablate.evaluation.likelihood import Scorer
from ablate.evaluation.likelihood import Share as ScorerShare
from ablate.evaluation.weights_hash import hash_of_weights
from ablate.fine_tuning import loop
from ablate.fine_tuning.encoding import Encoded, Encoder
from ablate.fine_tuning.forms import Form, form_for
from ablate.fine_tuning.judging import Exam, Judging, losses, mean, official
from ablate.fine_tuning.loop import Loop, Plan
from ablate.fine_tuning.mixture import Mixture, pairs
from ablate.fine_tuning.validation import Names, Writer
from ablate.model import parameter_groups
from ablate.model.build import Model
from ablate.ranges import AMOUNT, COUNT, POSITIVE, RATE, Ranges, at_least, check, whole
from ablate.run import outcomes
from ablate.run.outcomes import Outcomes
from ablate.run.score import Curve, Score
from ablate.tasks.example import Parts
from ablate.tasks.splits import limited
from ablate.tasks.task import Task
from ablate.training.schedule import Constant

CURVE = "fine-tuning step"
COMPARABLE = {
    "comparable": False,
    "not_comparable_because": "fine-tuned and judged on the files that were at hand, one example a row",
}


@dataclass(frozen=True)
class Settings:
    """How a model is fine-tuned and how its outputs are written; the keys of every option of this kind.

    batch_tokens: of a step; it has batch_tokens / input_length examples, one a row.
    input_length, target_length: the most ids of either; what is longer is cut, and counted in the record. A decoder
        alone reads both in one sequence of input_length, of which the target has half at most.
    learning_rate: of optimizers whose steps are relative to the size of a parameter, as Adafactor's are;
        learning_rate_absolute: of all others. Constant after `warmup_steps` from 0.
    checkpoint_every: steps between two validations.
    beams, length_penalty: of the outputs; with one beam they are written greedily.
    limit: items of each task that are judged, null for all.
    """

    steps: int
    batch_tokens: int
    micro_batch: int | None
    input_length: int
    target_length: int
    learning_rate: float
    learning_rate_absolute: float
    warmup_steps: int
    dropout: float
    checkpoint_every: int
    beams: int
    length_penalty: float
    limit: int | None

    def share(self, name: str, world_size: int) -> Share:
        """How the processes share a step's examples; raises UserError where they do not come out even."""
        sequences = self.batch_tokens // self.input_length
        micro = self.micro_batch or max(1, sequences // world_size)
        if not sequences or sequences % (micro * world_size):
            raise UserError(
                f"evaluation.{name}.batch_tokens={self.batch_tokens} makes {sequences} examples of input_length="
                f"{self.input_length}, which {world_size} processes cannot share in parts of {micro}"
            )
        return Share(sequences, world_size, sequences // (micro * world_size))

    def lengths(self, form: Form) -> tuple[int, int]:
        """The most ids of an input and of an answer in this form, their ends included."""
        return form.lengths(self.input_length, self.target_length)

    def check_lengths(self, name: str, form: Form) -> None:
        """Raise UserError where inputs or answers of this form have room for their ends alone."""
        if min(lengths := self.lengths(form)) < 2:
            raise UserError(
                f"evaluation.{name}.input_length={self.input_length} and target_length={self.target_length} leave room "
                f"for {lengths[0]} ids of an input and {lengths[1]} of an answer; each has an end beside its text"
            )


@dataclass(frozen=True)
class Subject:
    """What is fine-tuned: a model, and the text of its ids."""

    model: Model
    tokenizer: Tokenizer
    layout: Layout


class FineTuning(Evaluation):
    """Trains a model on the training parts of tasks, and scores what it writes for their validation parts."""

    ranges: ClassVar[Ranges] = {
        "steps": AMOUNT,
        "batch_tokens": AMOUNT,
        "micro_batch": COUNT,
        "input_length": COUNT,
        "target_length": COUNT,
        "learning_rate": POSITIVE,
        "learning_rate_absolute": POSITIVE,
        "warmup_steps": whole(0),
        "dropout": RATE,
        "checkpoint_every": AMOUNT,
        "beams": COUNT,
        "length_penalty": at_least(0),
        "limit": COUNT,
    }
    name: ClassVar[str]  # of the option
    cap: int | None = None  # examples of a task that an epoch of the mixture takes at most

    def __init__(self, **settings: Any):
        check(type(self), f"evaluation.{self.name}", **settings)
        fields = Settings.__dataclass_fields__
        self.settings = Settings(**{key: value for key, value in settings.items() if key in fields})

    @abstractmethod
    def read(self) -> dict[str, tuple[Task, Parts]]:
        """The tasks with their examples; raises UserError for what cannot be read."""

    @abstractmethod
    def names(self, task: str) -> Names:
        """What the scores of a task are called."""

    def averaged(self, found: Mapping[str, Outcomes]) -> Sequence[str]:
        """The tasks whose official scores are averaged to choose a checkpoint."""
        return list(found)

    def scores(self, found: Mapping[str, Outcomes], source: Mapping[str, Any]) -> dict[str, Score]:
        """The scores of the best checkpoint: first the one that checkpoints are chosen by, the primary one."""
        return of_tasks(found)

    def subject(self, model: Model, context: Context) -> Subject:
        """The trained weights in a model with the dropout of fine-tuning."""
        config = copy.deepcopy(context.config)
        config.dropout = self.settings.dropout
        made = build_model(config)
        made.load_state_dict(model.state_dict())
        return Subject(made, context.tokenizer, context.corpus.layout)

    @cached_property
    def tasks(self) -> dict[str, tuple[Task, Parts]]:
        """The tasks, with as many items to judge as `limit` says."""
        limit = self.settings.limit
        return {
            name: (task, dataclasses.replace(parts, validation=limited(parts.validation, limit)))
            for name, (task, parts) in self.read().items()
        }

    def check(self, config: DictConfig) -> None:
        """Read the tasks; raises UserError for what would make the evaluation fail after hours of training."""
        check_writes(config, self.name)
        form = form_for(fill(config, "topology").func.reads)
        self.settings.check_lengths(self.name, form)
        self.settings.share(self.name, config.trainer.devices * config.trainer.nodes)
        for task, _ in self.tasks.values():
            task.check()
        self._check_positions(config, form)

    def _check_positions(self, config: DictConfig, form: Form) -> None:
        """Raise UserError where a part of the model, such as a table of positions, cannot take inputs so long."""
        model = build_model(config, device="meta").eval()
        lengths = self.settings.lengths(form)
        longest, answer = (np.zeros(length, np.int64) for length in lengths)
        batch = {name: tensor.to("meta") for name, tensor in form.training([(longest, answer)]).items()}
        try:
            with torch.no_grad():
                model.forward(batch)
        except UserError as error:
            key = f"evaluation.{self.name}"
            raise UserError(f"{key}.input_length or {key}.target_length is too large: {error}") from None

    def evaluate(self, model: Model, context: Context) -> dict[str, Score] | Partial:
        """The scores of the best checkpoint; of a task that cannot be judged the reason, and no average then.

        Raises UserError for data that cannot be read.
        """
        return _Run(self, self.subject(model, context), context).scores()


def of_tasks(found: Mapping[str, Outcomes]) -> dict[str, Score]:
    """The scores of tasks, without any over several of them."""
    return {name: score for one in found.values() for name, score in one.scores.items()}


def _exploratory(scores: Mapping[str, Score]) -> dict[str, Score]:
    return {name: dataclasses.replace(score, exploratory=True) for name, score in scores.items()}


class _Run:
    """One fine-tuning."""

    def __init__(self, evaluation: FineTuning, subject: Subject, context: Context):
        self.evaluation, self.settings, self.context = evaluation, evaluation.settings, context
        self.model = subject.model.to(context.device)
        self.form = form_for(self.model.topology.reads, subject.layout.pad_id)  # type: ignore[arg-type]
        self.lengths = self.settings.lengths(self.form)
        self.share = self.settings.share(evaluation.name, context.world_size)
        self.train: dict[str, list[Encoded]] = {}
        exams = {}
        for name, (task, parts) in evaluation.tasks.items():
            encoder = Encoder(subject.tokenizer, subject.layout.eos_id, *self.lengths)
            self.train[name] = encoder.encode(parts.train, "train")
            encoded = encoder.encode(parts.validation, "validation")
            exams[name] = Exam(task, parts, encoded, evaluation.names(name), encoder.cut)
        self.identity = self._identity()
        self.judging = Judging(exams, self.model, self._writer(subject), self._scorer(), context, self.identity)

    def scores(self) -> dict[str, Score] | Partial:
        """Train, judge, and choose."""
        plan = self._plan()
        unjudged = self.judging.recall(plan.validations())
        training = Loop(self.model, self._optimizer(), plan, self.context, self._validate)
        training.run(before=min(unjudged, default=plan.steps))
        averages = {step: self._average(found) for step, found in self.judging.whole.items()}
        best = max(averages, key=lambda step: (averages[step], -step))
        lowest = min(averages, key=lambda step: (self._loss(self.judging.whole[step]), step))
        source = {"fine_tuning_steps": self.settings.steps, "step": best, **COMPARABLE}
        found = self.judging.place(best, lowest, source)
        if failed := self.judging.failed:
            return Partial(_exploratory(of_tasks(found)), failed)
        scores = self.evaluation.scores(found, source)
        main = next(iter(scores))
        curve = Curve(CURVE, tuple(averages), tuple(averages.values()))
        self._clear()
        return {**_exploratory(scores), main: dataclasses.replace(scores[main], curve=curve)}

    def _writer(self, subject: Subject) -> Writer:
        settings, (_, length) = self.settings, self.lengths
        beams, sequences = (settings.beams, settings.length_penalty), self.share.micro_batch
        return Writer(self.form, subject.tokenizer, subject.layout.eos_id, length, *beams, sequences)

    def _scorer(self) -> Scorer:
        context = self.context
        return Scorer(
            self.model,
            length=sum(self.lengths),
            batch_tokens=self.share.micro_batch * self.settings.input_length,
            padding=self.form.pad_id,
            autocast=context.autocast,
            share=ScorerShare(context.rank, context.world_size, context.total),
            between=lambda done, of: context.check_stop(),
        )

    def _plan(self) -> Plan:
        settings, trainer = self.settings, self.context.config.trainer
        sizes = {name: len(examples) for name, examples in self.train.items()}
        mixture = Mixture(sizes, self.evaluation.cap, self.context.seed)
        sequences = self.share.sequences
        is_relative = getattr(self._factory.func, "relative_steps", False)
        return Plan(
            steps=settings.steps,
            validate_every=settings.checkpoint_every,
            log_every=trainer.log_every,
            batch=lambda step: self.form.training(pairs(mixture.step(step, sequences), self.train)),
            rate=Constant(
                settings.learning_rate if is_relative else settings.learning_rate_absolute, settings.warmup_steps
            ),
            share=self.share,
            seed=self.context.seed,
            identity=self.identity,
            clip_norm=trainer.clip_norm,
        )

    @cached_property
    def _factory(self) -> Any:
        return fill(self.context.config, "optimizer")

    def _optimizer(self) -> torch.optim.Optimizer:
        groups = resolved(self.context.config)["parameter_groups"]
        optimizer: torch.optim.Optimizer = self._factory(
            parameter_groups.groups(self.model, groups, self.settings.steps)
        )
        return optimizer

    def _identity(self) -> str:
        """A hash of all that the fine-tuning follows from beside its options: weights, examples, seed."""
        weights = hash_of_weights(self.model)
        sources = {name: parts.source for name, (_, parts) in self.evaluation.tasks.items()}
        options = dataclasses.asdict(self.settings)
        return outcomes.key_of([weights, sources, options, self.evaluation.cap, self.context.seed])

    def _validate(self, step: int) -> float | None:
        is_new = step not in self.judging.found
        loss = self.judging.judge(step)
        if is_new:
            shown = official(self.judging.found[step], self.judging.exams)
            loss_shown = "" if loss is None else f"loss {loss:.4g}, "
            listed = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            self.context.say(f"fine-tuning step {step}/{self.settings.steps}  {loss_shown}{listed}")
        return loss

    def _average(self, found: Mapping[str, Outcomes]) -> float:
        """The mean of the official scores, by which the best step is chosen."""
        return mean(official(found, self.judging.exams), self.evaluation.averaged(found)) or 0.0

    def _loss(self, found: Mapping[str, Outcomes]) -> float:
        """The mean of the losses, whose own best step is the one at which it is lowest: where all outputs are wrong,
        the best official score is an accident."""
        average = mean(losses(found, self.judging.exams), self.evaluation.averaged(found))
        return math.inf if average is None else average

    def _clear(self) -> None:
        """Delete what only a further attempt would need, unless all checkpoints are kept."""
        if self.context.rank == 0 and self.context.config.keep_checkpoints != "all":
            loop.clear(self.context.folder)
            self.judging.clear()
