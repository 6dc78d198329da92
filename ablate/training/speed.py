"""How fast a row trains: a run cut short, with all that a run does but evaluation and checkpoints."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from ablate.data import build_corpus
from ablate.run.folder import RunFolder
from ablate.study.settled import settled
from ablate.training import processes
from ablate.training.callback import RunCallback
from ablate.training.fit import Fit
from ablate.training.interruption import Interruption
from ablate.training.lightning import L


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

    began: float  # by `time.monotonic()`, when it was ready to train
    step: float
    evaluation: float  # one held-out loss


class ShortTrial(SpeedTrial):
    """Takes the held-out loss once in the end."""

    least_steps = 3
    evaluation = began = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note when a run would begin to train."""
        self.began = time.monotonic()
        super().on_train_start(trainer, pl_module)
        self.progress.timer.start(warm_up=1)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate, and save nothing."""
        before = time.monotonic()
        self.evaluate(lambda: False)
        self.evaluation = time.monotonic() - before


def try_out(cfg: DictConfig, folder: RunFolder, seconds: float) -> Trial:
    """Train the run of `cfg` for about `seconds`, three steps at least, and take its held-out loss."""
    fit = short_fit(cfg, folder, functools.partial(ShortTrial, seconds=seconds))
    speed, callback = fit.progress.timer.steps_per_second()["median"], fit.callback
    assert isinstance(callback, ShortTrial) and speed, "the trial counts three steps at least"
    return Trial(callback.began, 1 / speed, callback.evaluation)
