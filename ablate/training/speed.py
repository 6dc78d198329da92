"""How fast a row trains: a run cut short, with all that a run does but evaluation and checkpoints."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from ablate.config import build_model
from ablate.data import build_corpus
from ablate.evaluation.contract import StopRequested, evaluating
from ablate.run.folder import RunFolder
from ablate.study.settled import settled
from ablate.training import processes, record_fields
from ablate.training.callback import RunCallback
from ablate.training.fit import Fit
from ablate.training.interruption import Interruption
from ablate.training.lightning import L
from ablate.training.unchanged import unchanged

LONGEST_EVALUATION = 30.0  # seconds that a trial waits for one


class SpeedTrial(RunCallback):
    """Logs as a run does, and stops after some seconds of counted steps."""

    least_steps = 10  # that count, however long they take

    def __init__(self, *arguments: Any, seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seconds = seconds

    def _stop_or_pause_requests(self) -> tuple[bool, bool]:
        now, timer = time.perf_counter(), self.progress.timer
        if not timer.durations:
            self.deadline = timer.last + self.seconds
        is_over = timer.last >= self.deadline and len(timer.durations) >= self.least_steps
        return is_over or self.interruption.signal is not None, self.is_main and now >= self.heartbeat.next

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Neither save nor evaluate."""

    def _between_steps(self, trainer: L.Trainer, requests: tuple[bool, bool] = (False, False)) -> None:
        trainer.should_stop = requests[0]


def measure_speed(cfg: DictConfig, folder: RunFolder, seconds: float) -> dict[str, float | None]:
    """Steps per second of the model of `cfg`: median, p25 and p75 of the steps after the warm-up."""
    fit = short_fit(cfg, folder, functools.partial(SpeedTrial, seconds=seconds))
    return fit.progress.timer.steps_per_second()


def short_fit(
    cfg: DictConfig, folder: RunFolder, callback: Callable[..., SpeedTrial], say: Callable[[str], None] = print
) -> Fit:
    """A run that its `callback` ends soon; `say` is called with what a run prints."""
    folder.path.mkdir(parents=True, exist_ok=True)
    text = build_corpus.prepare(cfg)
    tell = say if processes.is_main() else lambda line: None
    with Interruption() as interruption:
        fit = Fit(settled(cfg), text, folder, "speed", interruption, tell, callback=callback)
        fit.train()
    return fit


@dataclass(frozen=True)
class Trial:
    """What a few steps of a run say of the whole of it; all in seconds."""

    began: float  # by `time.monotonic()`, when it was ready to train; what the first step takes longer comes on top
    step: float
    evaluation: float  # one held-out loss
    save: float = 0.0  # one checkpoint
    scores: dict[str, float] = field(default_factory=dict)  # the evaluations besides, by name
    cut: tuple[str, ...] = ()  # those that did not end within `LONGEST_EVALUATION`


class ShortTrial(SpeedTrial):
    """Does in the end once what a run does between and after its steps, as long as that does not take long."""

    least_steps = 3
    evaluation = began = saving = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note when a run would begin to train."""
        self.began = time.monotonic()
        super().on_train_start(trainer, pl_module)
        self.progress.timer.start(warm_up=1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate and save."""
        before = time.monotonic()
        self.evaluate(lambda: False)
        self.evaluation = time.monotonic() - before
        self.save(trainer)
        self.saving = time.monotonic() - before - self.evaluation


def try_out(cfg: DictConfig, folder: RunFolder, seconds: float) -> Trial:
    """Train the run of `cfg` for about `seconds`, three steps at least, and evaluate it."""
    cfg = settled(cfg)
    _count_costs(cfg)
    fit = short_fit(cfg, folder, functools.partial(ShortTrial, seconds=seconds))
    timer, callback = fit.progress.timer, fit.callback
    assert isinstance(callback, ShortTrial) and timer.durations, "the trial counts three steps at least"
    step = statistics.mean(timer.durations)
    first = max(0.0, fit.progress.seconds - sum(timer.durations) - step)  # it allocates, and may compile
    scores, cut = _scores(fit)
    return Trial(callback.began + first, step, callback.evaluation, callback.saving, scores, cut)


def _count_costs(cfg: DictConfig) -> None:
    """What every run does before it trains."""
    record = record_fields.begun(cfg, [], "", None)
    record_fields.before_training(record, cfg, build_corpus.prepare(cfg), "speed", build_model(cfg, device="meta"))


def _scores(fit: Fit) -> tuple[dict[str, float], tuple[str, ...]]:
    """The seconds of each evaluation after training, and the names of those that were cut off."""
    scores, cut = {}, []
    for name, evaluation in fit.scoring.after.items():
        began = time.monotonic()
        context = fit.context(lambda began=began: time.monotonic() - began > LONGEST_EVALUATION)  # type: ignore[misc]
        context = dataclasses.replace(context, folder=fit.scoring.kept.folder(name, None))
        try:
            with unchanged(fit.model), evaluating(fit.model):
                evaluation.evaluate(fit.model, context)
        except StopRequested:
            cut.append(name)
        except Exception as error:  # as in a run, whose other evaluations go on
            fit.say(f"evaluation {name}: {error}")
        scores[name] = time.monotonic() - began
    return scores, tuple(cut)
