"""SuperGLUE: eight tasks in one mixture, and the average of their official scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ablate.errors import UserError, nearest
from ablate.evaluation.averages import mean_of
from ablate.fine_tuning.evaluation import FineTuning
from ablate.fine_tuning.validation import Names
from ablate.ranges import COUNT, Ranges
from ablate.run.outcomes import Outcomes
from ablate.run.score import Score
from ablate.tasks.example import Parts
from ablate.tasks.superglue import TASKS
from ablate.tasks.task import Task

METRICS: Mapping[str, Sequence[str]] = {
    "cb": ("f1_macro", "accuracy"),
    "multirc": ("f1a", "exact_match"),
    "record": ("f1", "exact_match"),
}


class SuperGLUE(FineTuning):
    """`superglue`, the mean of the tasks' official scores in per cent, `superglue_loss`, that of the losses of their
    reference answers, and `superglue_boolq` and so on.

    data: a folder with a folder for each task, in which train.jsonl and, where there is one, val.jsonl are, as in the
        official release; hub: a data set of the Hub in its place. tasks: which of them.
    cap: examples that an epoch of the mixture takes of a task at most, null for all.
    min_items: tasks with fewer items to judge are not averaged.
    """

    name = "superglue"
    ranges: ClassVar[Ranges] = {"cap": COUNT, "min_items": COUNT}

    def __init__(
        self, *, data: str, hub: str | None, tasks: Sequence[str], cap: int | None, min_items: int, **settings: Any
    ):
        super().__init__(cap=cap, min_items=min_items, **settings)
        self.data, self.hub, self.chosen, self.cap, self.min_items = data, hub, list(tasks), cap, min_items
        for task in self.chosen:
            if task not in TASKS:
                known = f"{', '.join(TASKS)}{nearest(str(task), TASKS)}"
                raise UserError(f"evaluation.superglue.tasks: there is no task {task!r}, only {known}")
        if not self.chosen:
            raise UserError(f"evaluation.superglue.tasks is empty; choose some of {', '.join(TASKS)}")

    def read(self) -> dict[str, tuple[Task, Parts]]:
        """The chosen tasks."""
        return {
            name: (TASKS[name], TASKS[name].parts(self.data, self.hub, "evaluation.superglue")) for name in self.chosen
        }

    def names(self, task: str) -> Names:
        """superglue_cb, with superglue_cb_f1_macro, superglue_cb_accuracy and superglue_cb_loss."""
        official = f"superglue_{task}"
        metrics = {metric: f"{official}_{metric}" for metric in METRICS.get(task, ())}
        return Names(official, metrics, f"{official}_loss")

    def averaged(self, found: Mapping[str, Outcomes]) -> list[str]:
        """The tasks with enough items; all, where none has."""
        return [name for name, one in found.items() if len(one.items) >= self.min_items] or list(found)

    def scores(self, found: Mapping[str, Outcomes], source: Mapping[str, Any]) -> dict[str, Score]:
        """The average of the official scores, that of the losses, and the scores of the tasks."""
        averaged = {task: self.names(task) for task in self.averaged(found)}
        official = {of.official: found[task].scores[of.official] for task, of in averaged.items()}
        known = [(task, of.loss) for task, of in averaged.items() if of.loss in found[task].scores]
        losses = {loss: found[task].scores[loss] for task, loss in known}
        source = {
            **source,
            "tasks": [*averaged],
            "left_out": [task for task in found if task not in averaged],
            "splits": {task: official[of.official].source["split"] for task, of in averaged.items()},
        }
        averages = {"superglue": mean_of(official, source)}
        if losses:
            averages["superglue_loss"] = mean_of(losses, {**source, "step": next(iter(losses.values())).source["step"]})
        return {**averages, **super().scores(found, source)}
