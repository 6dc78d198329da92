"""Training on pairs of texts, step by step, so that a killed one goes on where it was.

    folder/checkpoints/step-00000250.ckpt    weights, optimizer, running averages, metrics, as after pre-training
    folder/metrics.csv                       loss, rate and gradient norm, a line every few steps; validation losses

A step is a function of the weights, the optimizer's state and its number: its examples follow from (seed, step), its
dropout from (seed, step, slice). Of several processes each has its slices of the batch; their gradients are added.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ablate.config.batch import Share
from ablate.evaluation.contract import Batch, Context, StopRequested
from ablate.evaluation.heldout import summed
from ablate.model import parameter_groups as rates
from ablate.model.build import Model
from ablate.training import checkpoint
from ablate.training.checkpoint import CheckpointFolder
from ablate.training.metrics import LINE_SECONDS, MetricsFile, progress_line
from ablate.training.module import seed_dropout
from ablate.training.running_averages import RunningAverages

CHECKPOINT_SECONDS = 60.0
CHECKPOINT_SHARE = 0.02  # of the time may go into checkpoints by time


class Diverged(RuntimeError):
    """A step's loss or gradient was not a finite number."""


@dataclass(frozen=True)
class Plan:
    """What is trained: for how many steps, at which rates, on which batches, and when it is validated.

    batch: step -> the global batch. rate: step -> learning rate. identity: of all that the weights follow from.
    """

    steps: int
    validate_every: int
    log_every: int
    batch: Callable[[int], Batch]
    rate: Callable[[int], float]
    share: Share
    seed: int
    identity: str
    clip_norm: float | None = None

    def validates(self, step: int) -> bool:
        """Whether the model is judged after `step` steps."""
        return step == self.steps or (step > 0 and step % self.validate_every == 0)

    def validations(self) -> list[int]:
        """The steps after which the model is judged."""
        return [*filter(self.validates, range(self.steps + 1))]


@dataclass
class Loop:
    """The training of `model`.

    validate: called with the step where it is due, and again if that was not finished; returns the validation loss.
    """

    model: Model
    optimizer: torch.optim.Optimizer
    plan: Plan
    context: Context
    validate: Callable[[int], float | None]
    step: int = 0
    saved_step: int | None = None
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # of the steps since the last line of metrics
    loss: float | None = None  # their mean at that line

    def __post_init__(self) -> None:
        self.checkpoints = CheckpointFolder(self.context.folder / "checkpoints")
        self.metrics = MetricsFile(self.context.folder / "metrics.csv")
        self.averages = RunningAverages(self.model, self.plan.share.count)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.is_main = self.context.rank == 0

    def run(self, before: int) -> None:
        """Train to the end, from the newest whole checkpoint of this training, if there is one, at step `before` or
        earlier: the first step that is to be judged.

        Raises `StopRequested`, with a checkpoint, where the run was requested to stop, and `Diverged`.
        """
        if self.is_main:
            self.checkpoints.remove_after(before)
        self._agreed(False)  # until it is done
        self._resume()
        if self.is_main:
            self.metrics.begin()
        self.began, self.begun_at = time.perf_counter(), self.step
        self.next_save, self.next_line = self.began + CHECKPOINT_SECONDS, self.began + LINE_SECONDS
        try:
            self._go_on()
        except StopRequested:  # in another process, perhaps, and in the middle of a step, which changes nothing then
            self.save()
            raise

    def _go_on(self) -> None:
        while True:
            if self.plan.validates(self.step):
                self.save()  # without the line below, which the next attempt adds again
                self._log_validation(self.validate(self.step))
            if self.step >= self.plan.steps:
                return
            self.context.check_stop()
            self._take()
            self._say()
            if self._agreed(time.perf_counter() >= self.next_save):
                self.save()

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one."""
        if self.saved_step == self.step:
            return
        began = time.perf_counter()
        if self.is_main:
            content = {
                "state_dict": self.model.state_dict(),
                "callbacks": {
                    "optimizer": self.optimizer.state_dict(),
                    "step": self.step,
                    "seconds": self.seconds,
                    "losses": list(self.losses),
                    "metrics": list(self.metrics.lines),
                },
                "run": {"identity": self.plan.identity},
            }
            checkpoint.save(content, self.checkpoints.at(self.step))
            self.checkpoints.prune()
        self.saved_step = self.step
        now = time.perf_counter()
        self.next_save = now + max(CHECKPOINT_SECONDS, (now - began) / CHECKPOINT_SHARE)

    def _resume(self) -> None:
        """Stand where the newest whole checkpoint stood; what is of another training is deleted."""
        path = self.checkpoints.newest(self.context.say, set_aside=self.is_main)
        if path is None:
            return
        content = checkpoint.load(path)
        if content["run"].get("identity") != self.plan.identity:
            if self.is_main:
                self.checkpoints.clear()
            return
        state = content["callbacks"]
        self.model.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = self.saved_step = state["step"]
        self.seconds, self.losses, self.metrics.lines = state["seconds"], state["losses"], state["metrics"]
        self.context.say(f"fine-tuning goes on after step {self.step} of {self.plan.steps}")

    def _take(self) -> None:
        """One step: forward and backward of each slice, the sum over processes, the update."""
        began = time.perf_counter()
        plan, step = self.plan, self.step
        sums = self._backward(plan.batch(step))
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        self._add_over_processes(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        nats, targets, total = self.context.total(sums).tolist()
        for what, value in (("loss", total), ("gradient norm", norm.item())):
            if not math.isfinite(value):
                raise Diverged(f"fine-tuning diverged: the {what} was {value} at step {step + 1}")
        rates.set_rate(self.optimizer.param_groups, plan.rate(step), step)
        if plan.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.trained, plan.clip_norm, norm)
        self.optimizer.step()
        self.averages.move(self.context.world_size == 1)
        for parameter in self.trained:
            parameter.grad = None
        self.step += 1
        self.losses.append(nats / targets if targets else 0.0)
        self.seconds += time.perf_counter() - began
        if self.step % plan.log_every == 0 or self.step in (1, plan.steps):
            self._log(norm.item())

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of this process's slices; returns (3,), float64: the sums of nats, of targets and of losses."""
        share, device = self.plan.share, self.context.device
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        self.model.train()
        self.averages.begin()
        for index in share.slices(self.context.rank):
            rows = slice(index * share.micro_batch, (index + 1) * share.micro_batch)
            part = self.context.on_device({name: tensor[rows] for name, tensor in batch.items()})
            seed_dropout(self.plan.seed, self.step, index, device)
            with torch.enable_grad():
                with self.context.autocast():
                    loss, nll = self.model.forward(part)
                (loss / share.count).backward()
            self.averages.take()
            sums += torch.cat([summed(part, nll.detach()), loss.detach().double().reshape(1)])
        return sums

    def _add_over_processes(self, gradients: list[Tensor]) -> None:
        if self.context.world_size == 1:
            return
        total = self.context.total(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, total.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _agreed(self, flag: bool) -> bool:
        """Whether the main process says so; by a sum, in which the failure of another is met."""
        return self.context.total(torch.tensor(float(flag and self.is_main), device=self.context.device)).item() > 0

    def _log(self, norm: float) -> None:
        loss = sum(self.losses) / len(self.losses)
        self.losses.clear()
        self.loss = loss
        if self.is_main:
            row = {"step": self.step, "time": round(self.seconds, 3), "kind": "train", "loss": loss}
            self.metrics.add({**row, "learning_rate": self.plan.rate(self.step - 1), "grad_norm": norm})

    def _log_validation(self, loss: float | None) -> None:
        if self.is_main and loss is not None:
            self.metrics.add({"step": self.step, "time": round(self.seconds, 3), "kind": "validation", "loss": loss})

    def _say(self) -> None:
        now = time.perf_counter()
        if now < self.next_line:
            return
        self.next_line = now + LINE_SECONDS
        speed = (self.step - self.begun_at) / (now - self.began)
        line = progress_line(self.step, self.plan.steps, self.loss, speed)
        self.context.say(f"fine-tuning {line}")


def clear(folder: Path) -> None:
    """Delete the checkpoints of a fine-tuning that is over."""
    CheckpointFolder(folder / "checkpoints").clear()
