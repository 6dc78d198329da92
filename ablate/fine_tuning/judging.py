"""Judging the tasks of a fine-tuning at its steps, each task once, however often the fine-tuning is interrupted.

folder/validation/step-00000200/boolq.jsonl     the outcomes of a task at a step
folder/boolq.jsonl                              those of the best step, when all is over
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ablate.duration import duration
from ablate.evaluation.contract import Context
from ablate.evaluation.likelihood import Scorer
from ablate.fine_tuning import validation
from ablate.fine_tuning.encoding import Encoded
from ablate.fine_tuning.reference import answered
from ablate.fine_tuning.validation import Names, Writer, with_losses
from ablate.model.build import Model
from ablate.run import outcomes
from ablate.run.folder import step_name
from ablate.run.outcomes import Outcomes
from ablate.tasks.example import Parts
from ablate.tasks.task import Task
from ablate.training.metrics import LINE_SECONDS


@dataclass(frozen=True)
class Exam:
    """A task with what it is judged by: its examples, their ids, and how its scores are called.

    cut: the inputs and targets of either part that were too long, by part.
    """

    task: Task
    parts: Parts
    encoded: Sequence[Encoded]
    names: Names
    cut: Mapping[str, int]

    @cached_property
    def chance(self) -> float:
        """What the best constant output scores, in per cent."""
        return self.task.chance(self.parts.train, self.parts.validation)

    @property
    def source(self) -> dict[str, Any]:
        """What every score of the task is of."""
        counts = {"validation_items": len(self.parts.validation), "training_examples": len(self.parts.train)}
        return {**self.parts.source, **counts}


@dataclass
class Judging:
    """The outcomes of all tasks at the steps so far.

    identity: of all that the weights at a step follow from. found: step -> task -> outcomes. failed: the tasks that
    could not be judged at a step, with the reason; the others go on without them. began, next_line: when the writing of
    a task's answers began, and when the next line of progress is due, in seconds.
    """

    exams: Mapping[str, Exam]
    model: Model
    writer: Writer
    scorer: Scorer
    context: Context
    identity: str
    found: dict[int, dict[str, Outcomes]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    next_line: float = 0.0

    def recall(self, steps: Iterable[int]) -> list[int]:
        """Take what an earlier attempt has found at these steps; those at which it did not judge every task."""
        lacking = []
        for step in steps:
            kept = {name: one for name in self.exams if (one := self._kept(step, name))}
            if len(kept) == len(self.exams):
                self.found[step] = kept
            else:
                lacking.append(step)
        return lacking

    def judge(self, step: int) -> float | None:
        """Judge every task at this step, those that an earlier attempt has judged excepted.

        Returns the mean over the tasks of the loss of their reference answers. Raises what fails for all tasks.
        """
        if step not in self.found:
            found = {name: self._kept(step, name) or self._attempted(step, name) for name in self.exams}
            self.found[step] = {name: one for name, one in found.items() if one is not None}
        return mean(losses(self.found[step], self.exams))

    @property
    def whole(self) -> dict[int, dict[str, Outcomes]]:
        """The outcomes at each step, of the tasks that did not fail at any."""
        return {
            step: {name: one for name, one in found.items() if name not in self.failed}
            for step, found in sorted(self.found.items())
        }

    def place(self, step: int, loss_step: int, source: Mapping[str, Any]) -> dict[str, Outcomes]:
        """The outcomes of a step, with the losses of another, beside the run, by task.

        Their scores name the file and its hash, and have `source`; the official one says as well what was cut.
        """
        placed = {}
        for name, one in self.whole[step].items():
            exam, lowest = self.exams[name], self.whole[loss_step][name]
            key = outcomes.key_of([self.identity, step, loss_step, name])
            one = dataclasses.replace(with_losses(one, lowest, exam.names.loss), key=key)
            if self.context.rank == 0:
                outcomes.write(self.context.folder, one)
            file = {"outcomes": outcomes.file_name(one.task), "outcomes_sha256": outcomes.sha256(one.items), **source}
            own: dict[str, dict[str, Any]] = {
                exam.names.official: {"cut": dict(exam.cut)},
                exam.names.loss: {"step": loss_step},
            }
            scores = {
                score: dataclasses.replace(content, source={**content.source, **file, **own.get(score, {})})
                for score, content in one.scores.items()
            }
            placed[name] = dataclasses.replace(one, scores=scores)
        return placed

    def clear(self) -> None:
        """Delete what only a further attempt would need."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _attempted(self, step: int, name: str) -> Outcomes | None:
        if len(self.exams) == 1:
            return self._judged(step, name)
        found, reason = self.context.attempted(lambda: self._judged(step, name))
        if found is None:
            self.failed.setdefault(name, f"at step {step}: {reason}")
            if len(self.failed) == len(self.exams):
                raise RuntimeError("; ".join(f"{task} {why}" for task, why in self.failed.items()))
        return found

    def _judged(self, step: int, name: str) -> Outcomes:
        exam = self.exams[name]
        inputs = [one.inputs for one in exam.encoded]
        self.began = time.monotonic()
        self.next_line = self.began + LINE_SECONDS
        written = self.writer.outputs(self.model, inputs, self.context, partial(self._between, name))
        found = validation.judged(
            exam.task,
            exam.names,
            exam.parts.validation,
            written,
            answered(self.scorer, self.writer.form, exam.encoded),
            chance=exam.chance,
            key=self._key(step, name),
            source=exam.source,
        )
        if self.context.rank == 0:
            folder = self._step_folder(step)
            folder.mkdir(parents=True, exist_ok=True)
            outcomes.write(folder, found)
        return found

    def _between(self, name: str, done: int, of: int) -> None:
        """Stop where the run is requested to, and say every now and then how far it is."""
        self.context.check_stop()
        if (now := time.monotonic()) >= self.next_line and done:
            self.next_line, left = now + LINE_SECONDS, (now - self.began) / done * (of - done)
            self.context.say(f"fine-tuning judges {name}: {done:,} of {of:,}, {duration(left)} left")

    def _kept(self, step: int, name: str) -> Outcomes | None:
        return outcomes.kept(self._step_folder(step), self.exams[name].task.name, self._key(step, name))

    def _key(self, step: int, name: str) -> str:
        return outcomes.key_of([self.identity, step, name])

    @property
    def _folder(self) -> Path:
        return self.context.folder / "validation"

    def _step_folder(self, step: int) -> Path:
        return self._folder / step_name(step)


def official(found: Mapping[str, Outcomes], exams: Mapping[str, Exam]) -> dict[str, float]:
    """The official score of each task."""
    return {name: one.scores[exams[name].names.official].value for name, one in found.items()}


def losses(found: Mapping[str, Outcomes], exams: Mapping[str, Exam]) -> dict[str, float]:
    """The loss of the reference answers of each task that has some."""
    names = {name: exams[name].names.loss for name in found}
    return {name: found[name].scores[loss].value for name, loss in names.items() if loss in found[name].scores}


def mean(values: Mapping[str, float], names: Iterable[str] | None = None) -> float | None:
    """The mean over the tasks of these names, or over all; None where none of them has a value."""
    chosen = [values[name] for name in (values if names is None else names) if name in values]
    return sum(chosen) / len(chosen) if chosen else None
