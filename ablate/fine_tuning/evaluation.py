"""Fine-tuning on text-to-text tasks as an evaluation (Raffel et al. 2020; Narang et al. 2021, sections 3.2 and 3.3).

    examples -> mixture -> steps of training, the loss on the answer alone
                             | every `checkpoint_every` steps and after the last: checkpoint, outputs, scores
                             best of them by the official score -> the scores of the record

A subclass says which tasks there are, and what the score is called.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig

from ablate.config import build_model, resolved
from ablate.config.batch import Share
from ablate.config.instantiation import fill
from ablate.data.tokenizer_backends import Tokenizer
from ablate.data.vocabulary import Layout
from ablate.errors import UserError
from ablate.evaluation.contract import Context, Evaluation, Partial, check_writes
from ablate.evaluation.weights_hash import hash_of_weights
from ablate.fine_tuning import loop, validation
from ablate.fine_tuning.encoding import Encoded, Encoder
from ablate.fine_tuning.forms import Form, form_for
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
from ablate.tasks.splits import order_of
from ablate.tasks.task import Task
from ablate.training.schedule import Constant

CURVE = "fine-tuning step"
COMPARABLE = {
    "comparable": False,
    "why": "fine-tuned and judged on the files that were at hand, one example a row",
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

    def check_lengths(self, name: str, form: Form) -> None:
        """Raise UserError where inputs or answers of this form have room for their ends alone."""
        if min(lengths := form.lengths(self.input_length, self.target_length)) < 2:
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
        """The tasks, with as many items to judge as `limit` says: by a hash, whole passages."""
        found = {}
        for name, (task, parts) in self.read().items():
            limited = parts.validation
            if self.settings.limit is not None and len(limited) > self.settings.limit:
                limited = sorted(limited, key=order_of)[: self.settings.limit]
            found[name] = (task, dataclasses.replace(parts, validation=limited))
        return found

    def check(self, config: DictConfig) -> None:
        """Read the tasks; raises UserError for what would make the evaluation fail after hours of training."""
        check_writes(config, self.name)
        self.settings.check_lengths(self.name, form_for(fill(config, "topology").func.reads))
        self.settings.share(self.name, config.trainer.devices * config.trainer.nodes)
        for task, _ in self.tasks.values():
            task.check()

    def evaluate(self, model: Model, context: Context) -> dict[str, Score] | Partial:
        """The scores of the best checkpoint; raises UserError for data that cannot be read.

        A task that cannot be judged is named, and the scores of the others are kept, without an average.
        """
        return _Run(self, self.subject(model, context), context).scores()


def of_tasks(found: Mapping[str, Outcomes]) -> dict[str, Score]:
    """The scores of tasks, without any over several of them."""
    return {name: score for one in found.values() for name, score in one.scores.items()}


class _Run:
    """One fine-tuning."""

    def __init__(self, evaluation: FineTuning, subject: Subject, context: Context):
        self.evaluation, self.settings = evaluation, evaluation.settings
        self.subject, self.context = subject, context
        self.model = subject.model.to(context.device)
        settings, layout = self.settings, subject.layout
        self.form = form_for(self.model.topology.reads, layout.pad_id)  # type: ignore[arg-type]
        lengths = self.form.lengths(settings.input_length, settings.target_length)
        self.encoder = Encoder(subject.tokenizer, layout.eos_id, *lengths)
        self.train: dict[str, list[Encoded]] = {}
        self.inputs: dict[str, list[Any]] = {}
        for name, (_, parts) in evaluation.tasks.items():
            self.train[name] = self.encoder.encode(parts.train, "train")
            self.inputs[name] = [one.inputs for one in self.encoder.encode(parts.validation, "validation")]
        self.share = settings.share(evaluation.name, context.world_size)
        self.writer = Writer(
            self.form,
            subject.tokenizer,
            layout.eos_id,
            self.encoder.target_length,
            settings.beams,
            settings.length_penalty,
            self.share.micro_batch,
        )
        self.identity = self._identity()
        self.found: dict[int, dict[str, Outcomes]] = {}  # step -> task -> outcomes
        self.failed: dict[str, str] = {}  # why a task could not be judged, at the first step where it could not

    def scores(self) -> dict[str, Score] | Partial:
        """Train, judge, and choose."""
        plan = self._plan()
        for step in self._validated_before(plan):
            self.found[step] = {name: self._kept(step, name) for name in self.evaluation.tasks}  # type: ignore[misc]
        loop = Loop(self.model, self._optimizer(), plan, self.context, self._validate)
        loop.run(before=min((step for step in plan.validations() if step not in self.found), default=plan.steps))
        if len(self.failed) == len(self.evaluation.tasks):
            return Partial({}, self.failed)
        averages = {step: self._average(found) for step, found in sorted(self.found.items())}
        best = max(averages, key=lambda step: (averages[step], -step))
        found = self._placed(best)
        if self.failed:
            return Partial(of_tasks(found), self.failed)
        source = {**self._source(), "step": best}
        scores = self.evaluation.scores(found, source)
        main = next(iter(scores))
        curve = Curve(CURVE, tuple(averages), tuple(averages.values()))
        self._clear()
        others = {name: dataclasses.replace(score, exploratory=True) for name, score in scores.items() if name != main}
        return {main: dataclasses.replace(scores[main], curve=curve), **others}

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

    def _validate(self, step: int) -> None:
        """Judge every task at this step, those that an earlier attempt has judged excepted."""
        if step in self.found:
            return
        found = {}
        for name in self.evaluation.tasks:
            one = self._kept(step, name)
            if one is None:
                one, reason = self.context.attempted(partial(self._judged, step, name))
            if one is None:
                self.context.say(f"fine-tuning step {step}: {name} failed: {reason}")
                self.failed.setdefault(name, f"at fine-tuning step {step}: {reason}")
            else:
                found[name] = one
        self.found[step] = found
        self.context.say(f"fine-tuning step {step}/{self.settings.steps}  {self._described(found)}")

    def _judged(self, step: int, name: str) -> Outcomes:
        task, parts = self.evaluation.tasks[name]
        written = self.writer.outputs(self.model, self.inputs[name], self.context)
        source = {**parts.source, "validation_items": len(parts.validation), "training_examples": len(parts.train)}
        key = outcomes.key_of([self.identity, step, name])
        found = validation.judged(task, self.evaluation.names(name), parts.validation, written, key, source)
        if self.context.rank == 0:
            folder = self._step_folder(step)
            folder.mkdir(parents=True, exist_ok=True)
            outcomes.write(folder, found)
        return found

    def _kept(self, step: int, name: str) -> Outcomes | None:
        key = outcomes.key_of([self.identity, step, name])
        task, _ = self.evaluation.tasks[name]
        for folder in (self._step_folder(step), self.context.folder):
            if found := outcomes.kept(folder, task.name, key):
                return found
        return None

    def _validated_before(self, plan: Plan) -> list[int]:
        return [step for step in plan.validations() if all(self._kept(step, name) for name in self.evaluation.tasks)]

    def _average(self, found: Mapping[str, Outcomes]) -> float:
        names = self.evaluation.averaged(self._without_failed(found))
        values = [found[name].scores[self.evaluation.names(name).official].value for name in names]
        return sum(values) / len(values)

    def _without_failed(self, found: Mapping[str, Outcomes]) -> dict[str, Outcomes]:
        """Without the tasks that could not be judged at some step."""
        return {name: one for name, one in found.items() if name not in self.failed}

    def _described(self, found: Mapping[str, Outcomes]) -> str:
        shown = (f"{name} {one.scores[self.evaluation.names(name).official].value:.4g}" for name, one in found.items())
        return ", ".join(shown)

    def _placed(self, step: int) -> dict[str, Outcomes]:
        """The outcomes of the best step, beside the run; each score names its file and the file's hash."""
        placed = {}
        for name, one in self._without_failed(self.found[step]).items():
            if self.context.rank == 0:
                outcomes.write(self.context.folder, one)
            file = {"outcomes": outcomes.file_name(one.task), "outcomes_sha256": outcomes.sha256(one.items)}
            scores = {
                score: dataclasses.replace(content, source={**content.source, **file, **self._source(), "step": step})
                for score, content in one.scores.items()
            }
            placed[name] = dataclasses.replace(one, scores=scores)
        return placed

    def _source(self) -> dict[str, Any]:
        return {"cut": dict(self.encoder.cut), "fine_tuning_steps": self.settings.steps, **COMPARABLE}

    def _step_folder(self, step: int) -> Path:
        return self.context.folder / "validation" / f"step-{step:08d}"

    def _clear(self) -> None:
        """Delete what only a further attempt would need, unless all checkpoints are kept."""
        if self.context.rank == 0 and self.context.config.keep_checkpoints != "all":
            loop.clear(self.context.folder)
            shutil.rmtree(self.context.folder / "validation", ignore_errors=True)
