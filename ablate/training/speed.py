"""How fast a row trains: a run cut short, with all that a run does but evaluation and checkpoints."""

from __future__ import annotations

import functools
import time
from typing import Any

from omegaconf import DictConfig

from ablate.data import build_corpus
from ablate.run.folder import RunFolder
from ablate.training import processes
from ablate.training.callback import RunCallback
from ablate.training.fit import Fit
from ablate.training.interruption import Interruption
from ablate.training.lightning import L

LEAST_STEPS = 10  # that count, however long they take


class SpeedTrial(RunCallback):
    """Logs as a run does, and stops after some seconds of counted steps."""

    def __init__(self, *arguments: Any, seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seconds = seconds

    def _stop_or_pause_requests(self) -> tuple[bool, bool]:
        now, timer = time.perf_counter(), self.progress.timer
        if not timer.durations:
            self.deadline = now + self.seconds
        is_over = now >= self.deadline and len(timer.durations) >= LEAST_STEPS
        return is_over or self.interruption.signal is not None, self.is_main and now >= self.heartbeat.next

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Neither save nor evaluate."""

    def _between_steps(self, trainer: L.Trainer, requests: tuple[bool, bool] = (False, False)) -> None:
        trainer.should_stop = requests[0]


def measure_speed(cfg: DictConfig, folder: RunFolder, seconds: float) -> dict[str, float | None]:
    """Steps per second of the model of `cfg`: median, p25 and p75 of the steps after the warm-up."""
    folder.path.mkdir(parents=True, exist_ok=True)
    text = build_corpus.prepare(cfg)
    say = print if processes.is_main() else lambda line: None
    with Interruption() as interruption:
        trial = functools.partial(SpeedTrial, seconds=seconds)
        fit = Fit(cfg, text, folder, "speed", interruption, say, callback=trial)
        fit.train()
    return fit.progress.timer.steps_per_second()
