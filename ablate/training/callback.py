"""What happens between steps: metrics, held-out loss, checkpoints, and the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ablate.evaluation.contract import BITS_PER_BYTE, LOSS, StopRequested
from ablate.run.folder import RunFolder
from ablate.run.record import STARTING, is_loss
from ablate.run.score import Score
from ablate.training.bar import Bar
from ablate.training.checkpoint import CheckpointFolder
from ablate.training.interruption import Interruption
from ablate.training.lightning import L
from ablate.training.metrics import FIRST, LINE_SECONDS, Heartbeat, MetricsFile, progress_line
from ablate.training.module import Training
from ablate.training.progress import Agenda, Progress
from ablate.training.scoring import Scored

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_SHARE = 0.02  # of the time may go into checkpoints by time

Row = dict[str, Any]


class RunCallback(L.Callback):
    """Runs whenever the module pauses; its order is what makes a resumed run equal to one never interrupted:

        metrics of step k  ->  held-out loss at k, if due  ->  other scores, if due  ->  checkpoint of all that
                           ->  step k+1

    A checkpoint made while the held-out loss at k, or a score, is still missing says so, and the resumed run takes it
    first.
    """

    def __init__(
        self,
        folder: RunFolder,
        agenda: Agenda,
        progress: Progress,
        interruption: Interruption,
        evaluate: Callable[[Callable[[], bool]], dict[str, Score]],
        score: Callable[[Callable[[], bool]], Scored],
        say: Callable[[str], None],
        *,
        score_at: Callable[[int, Callable[[], bool]], bool] = lambda step, stop: True,
        score_past: Callable[[int, Callable[[], bool]], bool] = lambda step, stop: True,
        is_main: bool = True,
        save_last: bool = False,
        listeners: Sequence[Callable[[Row], None]] = (),
    ) -> None:
        self.agenda, self.progress, self.interruption = agenda, progress, interruption
        self.evaluate, self.score, self.say, self.listeners = evaluate, score, say, listeners
        self.score_at, self.score_past = score_at, score_past  # False where a signal came in between
        self.is_main, self.save_last = is_main, save_last
        self.metrics = MetricsFile(folder.metrics)
        self.heartbeat = Heartbeat(folder.progress, agenda.steps)
        self.bar = Bar(agenda.steps, is_wanted=is_main)
        self.checkpoints = CheckpointFolder(folder.checkpoints)
        self.losses: dict[str, dict[str, Any]] = {}  # step -> held-out loss
        self.loss: float | None = None
        self.saved_step: int | None = None
        self.next_line = 0.0
        self.has_stopped = False  # before all was done, because of a signal
        self.scored = Scored()  # by the evaluations after training

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the run beside weights and optimizer."""
        return {
            "metrics": list(self.metrics.lines),
            "losses": dict(self.losses),
            "progress": self.progress.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Stand where a checkpoint stood."""
        self.metrics.lines, self.losses = list(state["metrics"]), dict(state["losses"])
        self.progress.load_state_dict(state["progress"])
        self.saved_step = self.progress.step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin, or go on from a checkpoint; from here on a signal waits for the end of a step."""
        self.interruption.deferred = True
        self.interruption.install()
        _module(pl_module).stop_or_pause_requests = self._stop_or_pause_requests
        if self.is_main:
            self.metrics.begin()
        now = time.perf_counter()
        self.next_line, self.next_save = now + LINE_SECONDS, now + CHECKPOINT_SECONDS
        self._beat(STARTING)
        if self.progress.step:
            self.say(f"resumed at step {self.progress.step}")
            leaves = not self.score_past(self.progress.step, self._leaves_evaluation)
            self._between_steps(trainer, (leaves, False))
        self.progress.timer.start(warm_up=max(1, min(10, self.agenda.steps // 10)))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Do what is due after the last step."""
        progress = self.progress
        if line := progress.spikes.news():
            self.say(line)
        if progress.diverged:
            self._add_first_steps()  # what came before it
            trainer.should_stop = True
            return
        if self.agenda.logs(progress.step):
            self.loss = progress.mean_loss()
            progress.new_window()
            self._add_row(
                "train", loss=self.loss, learning_rate=progress.learning_rate, grad_norm=progress.gradient_norm
            )
        now = time.perf_counter()
        if self.is_main and now >= self.heartbeat.next:
            self._beat("training")
        if now >= self.next_line:
            self.next_line = now + LINE_SECONDS
            speed = progress.timer.steps_per_second()["median"]
            self.say(progress_line(progress.step, self.agenda.steps, self._shown_loss(), speed))
        self._between_steps(trainer, _module(pl_module).requests_of_any)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the state of the last step, if that is wanted, and run the evaluations that come after it."""
        if self.has_stopped or self.progress.diverged:
            return
        if self.save_last:
            self.save(trainer)
        self.scored = self.score(self._leaves_evaluation)
        self.has_stopped = self.scored.stopped

    def _between_steps(self, trainer: L.Trainer, requests: tuple[bool, bool] = (False, False)) -> None:
        stop, pause = requests
        step = self.progress.step
        save = self.agenda.saves(step) or (pause and self._agreed_save(trainer))
        is_evaluated = str(step) in self.losses or not self.agenda.evaluates(step)
        if not is_evaluated and not stop:
            is_evaluated = self._evaluate(step)
            stop = not is_evaluated
            self.progress.timer.skip()
        if self.agenda.scores(step) and not (stop or self.progress.diverged):
            self.save(trainer)  # as it may take long
            self._beat("evaluating")
            stop = not self.score_at(step, self._leaves_evaluation)
            self.progress.timer.skip()
        if self.progress.diverged or (is_evaluated and step >= self.agenda.steps):
            trainer.should_stop = True
        elif stop or save:
            self.save(trainer)
            self.progress.timer.skip()
            self.has_stopped = trainer.should_stop = stop

    def _evaluate(self, step: int) -> bool:
        """Take the held-out loss; False where a signal came in between."""
        self._beat("evaluating")
        try:
            found = self.evaluate(self._leaves_evaluation)
        except StopRequested:
            return False
        loss, density = found[LOSS], found.get(BITS_PER_BYTE)
        if not is_loss(loss.value):
            self.progress.diverged = f"the held-out loss was {loss.value} at step {step}"
            return True
        bits_per_byte, size = (density.value, density.items) if density else (None, 0)
        taken = {"loss": loss.value, "bits_per_byte": bits_per_byte, "tokens": loss.items, "bytes": size}
        self.losses[str(step)] = taken
        self._add_row("validation", loss=loss.value, bits_per_byte=bits_per_byte)
        self.say(f"step {step}/{self.agenda.steps}  held-out loss {loss.value:.4f} nats a token")
        return True

    def _leaves_evaluation(self) -> bool:
        """Asked at each batch: whether a signal came; shows as well that the run is alive."""
        if time.perf_counter() >= self.heartbeat.next:
            self._beat("evaluating")
        return self.interruption.signal is not None

    def save(self, trainer: L.Trainer) -> None:
        """Write a checkpoint of this step, unless there is one, and drop the one before the last."""
        if self.saved_step == self.progress.step:
            return
        began = time.perf_counter()
        trainer.save_checkpoint(self.checkpoints.at(self.progress.step))
        if self.is_main:
            self.checkpoints.prune()
        self.saved_step = self.progress.step
        now = time.perf_counter()
        self.next_save = now + max(CHECKPOINT_SECONDS, (now - began) / CHECKPOINT_SHARE)

    def _stop_or_pause_requests(self) -> tuple[bool, bool]:
        """Whether this process has to stop, and whether it needs a pause for the heartbeat or a checkpoint."""
        now = time.perf_counter()
        return self.interruption.signal is not None, self.is_main and (
            now >= self.heartbeat.next or self._save_is_due(now)
        )

    def _save_is_due(self, now: float) -> bool:
        return self.agenda.checkpoint_every is None and now >= self.next_save

    def _agreed_save(self, trainer: L.Trainer) -> bool:
        """Whether it is time for a checkpoint, by the clock of the main process."""
        due = self._save_is_due(time.perf_counter())
        return due if trainer.world_size == 1 else trainer.strategy.broadcast(due)

    def _beat(self, phase: str) -> None:
        if self.is_main:
            self.heartbeat.beat(self.progress.step, self.loss, phase)
            if self.bar.is_shown:
                speed = self.progress.timer.steps_per_second()["median"]
                self.bar.show(phase, self.progress.step, self.loss, speed)

    def _shown_loss(self) -> float:
        return self.loss if self.loss is not None else self.progress.mean_loss()

    def _add_first_steps(self) -> None:
        """Write the lines of the first steps that are not written yet: before the next line, so that no step waits."""
        lines = self.progress.first_steps()
        if self.is_main and lines:
            self.metrics.add_all([{**line, "kind": FIRST} for line in lines])

    def _add_row(self, kind: str, **numbers: float | None) -> None:
        self._add_first_steps()
        if self.is_main:
            row = {"step": self.progress.step, "time": round(self.progress.seconds, 3), "kind": kind, **numbers}
            self.metrics.add(row)
            for listener in self.listeners:
                listener(row)


def _module(module: L.LightningModule) -> Training:
    """The module that the trainer hands over, which is this project's only one."""
    assert isinstance(module, Training)
    return module
