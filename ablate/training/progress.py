"""How far a training run has come: the step, the losses since the last line of metrics, and how long steps take."""

from __future__ import annotations

import statistics
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch

from ablate.training.spikes import Spikes

REMEMBERED = 4096  # step durations; enough for a median, few enough for every checkpoint
FIRST_STEPS = 64  # of a run, each of which gets a line of metrics: where a missing warm-up shows


@dataclass(frozen=True)
class Agenda:
    """At which steps (counted from 1) there is something to do beside training."""

    steps: int
    early_step: int
    log_every: int
    evaluate_every: int | None
    checkpoint_every: int | None
    scored: frozenset[int] = frozenset()  # steps before the last at which scores are taken

    def logs(self, step: int) -> bool:
        """Whether a line of metrics is written."""
        return step % self.log_every == 0 or step in (1, self.steps)

    def evaluates(self, step: int) -> bool:
        """Whether the held-out loss is taken."""
        return step in (self.early_step, self.steps) or _hits(step, self.evaluate_every)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due by the number of steps."""
        return _hits(step, self.checkpoint_every)

    def scores(self, step: int) -> bool:
        """Whether an evaluation that is not part of training is taken on the way."""
        return step in self.scored

    def pauses(self, step: int) -> bool:
        """Whether there is anything to do at all."""
        return self.logs(step) or self.evaluates(step) or self.saves(step) or self.scores(step)


def _hits(step: int, every: int | None) -> bool:
    return every is not None and step > 0 and step % every == 0


class Progress:
    """The numbers of a run under way, changed by each step."""

    def __init__(self, spikes: Spikes | None = None) -> None:
        self.step = 0  # steps done
        self.diverged = ""  # why no further step can be taken
        self.gradient_norm = 0.0
        self.learning_rate = 0.0
        self.seconds = 0.0  # spent on steps
        self.timer = StepTimer()
        self.spikes = spikes or Spikes()
        self._loss_sum = 0.0
        self._loss_steps = 0
        self._first: list[dict[str, float]] = []  # the first steps whose lines are not written yet

    def take(self, loss: float, gradient_norm: float, learning_rate: float, data_wait: float) -> None:
        """One step more: mean loss of its global batch, norm before clipping, rate, seconds spent waiting for data."""
        self.step += 1
        self.gradient_norm = gradient_norm
        self.learning_rate = learning_rate
        self._loss_sum += loss
        self._loss_steps += 1
        self.seconds += self.timer.tick(data_wait)
        if self.step <= FIRST_STEPS:
            numbers = {"loss": loss, "learning_rate": learning_rate, "grad_norm": gradient_norm}
            self._first.append({"step": self.step, "time": round(self.seconds, 3), **numbers})

    def first_steps(self) -> list[dict[str, float]]:
        """A line of metrics for each of the first steps since this was asked last: that step's own numbers."""
        lines, self._first = self._first, []
        return lines

    def mean_loss(self) -> float:
        """The mean loss of the steps since `new_window`."""
        return self._loss_sum / max(1, self._loss_steps)

    def new_window(self) -> None:
        """Begin a new mean."""
        self._loss_sum, self._loss_steps = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "step": self.step,
            "loss_sum": self._loss_sum,
            "loss_steps": self._loss_steps,
            "first_steps": [dict(line) for line in self._first],
            "seconds": self.seconds,
            "durations": torch.tensor(list(self.timer.durations), dtype=torch.float64),
            "waits": torch.tensor(list(self.timer.waits), dtype=torch.float64),
            "spikes": self.spikes.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where a checkpoint stood."""
        self.step = state["step"]
        self._loss_sum, self._loss_steps = state["loss_sum"], state["loss_steps"]
        self.seconds = state["seconds"]
        self._first = [dict(line) for line in state.get("first_steps", [])]  # not in an older version's checkpoint
        self.timer.durations.extend(state["durations"].tolist())
        self.timer.waits.extend(state["waits"].tolist())
        if "spikes" in state:  # not in a checkpoint of an older version
            self.spikes.load_state_dict(state["spikes"])


class StepTimer:
    """Durations of steps, from end to end: data, logging and all, without warm-up, evaluation and checkpoints."""

    def __init__(self) -> None:
        self.durations: deque[float] = deque(maxlen=REMEMBERED)
        self.waits: deque[float] = deque(maxlen=REMEMBERED)
        self.warm_up = 0
        self.last = 0.0

    def start(self, warm_up: int) -> None:
        """Begin to measure; the first `warm_up` steps (allocation, compilation) will not count."""
        self.warm_up = warm_up
        self.last = time.perf_counter()

    def tick(self, data_wait: float) -> float:
        """A step has ended, `data_wait` seconds of which it waited for its batch; returns its duration in seconds."""
        now = time.perf_counter()
        duration, self.last = now - self.last, now
        if self.warm_up > 0:
            self.warm_up -= 1
        else:
            self.durations.append(duration)
            self.waits.append(data_wait)
        return duration

    def skip(self) -> None:
        """What has happened since the last step belongs to no step."""
        self.last = time.perf_counter()

    def steps_per_second(self) -> dict[str, float | None]:
        """Median and quartiles; None where no step counted."""
        if not self.durations:
            return {"median": None, "p25": None, "p75": None}
        ordered = list(self.durations)
        low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
        return {"median": 1 / middle, "p25": 1 / high, "p75": 1 / low}

    def data_wait_fraction(self) -> float | None:
        """The part of the steps' time that went by waiting for data."""
        return sum(self.waits) / sum(self.durations) if self.durations else None
