"""The one LightningModule: it takes steps until there is something else to do."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ablate.config.batch import Share
from ablate.errors import UserError
from ablate.evaluation.heldout import summed
from ablate.model import parameter_groups as rates
from ablate.model.build import Model
from ablate.run import match
from ablate.training.batching import Steps
from ablate.training.lightning import L
from ablate.training.progress import Agenda, Progress
from ablate.training.running_averages import RunningAverages


class Training(L.LightningModule):
    """Trains `model(batch) -> (loss, nll)` on step-indexed batches.

        training_step = forward, backward (x accumulation), norm, update   |  again, until the agenda has something
                        forward, backward (x accumulation), norm, update   |  to do or a process wants to pause

    A model of 3 ms a step would spend a tenth of its time in the trainer's hooks if they ran at each step; they run
    where there is something to do. For the same reason nothing is logged through Lightning.

    A step whose loss or gradient is not finite is not taken: `progress.diverged` says why, the weights stay finite. One
    that `progress.spikes` has skipped leaves weights, running averages and optimizer as they are, and counts as a step.
    """

    def __init__(
        self,
        model: Model,
        optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
        schedule: Callable[[int], float],
        micro: Callable[[int, int, int], dict[str, Tensor]],
        shared: Share,
        agenda: Agenda,
        progress: Progress,
        *,
        parameter_groups: Sequence[dict[str, Any]] = (),
        clip_norm: float | None = None,
        dropout_seed: int = 0,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        mark: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.micro = micro
        self.share = shared
        self.agenda = agenda
        self.progress = progress
        self.parameter_groups = parameter_groups
        self.clip_norm = clip_norm
        self.dropout_seed = dropout_seed
        self.autocast = autocast
        self.mark = mark or {}  # whose checkpoints these are: identity, and config as flat keys
        self.averages = RunningAverages(model, shared.count)
        self.stop_or_pause_requests: Callable[[], tuple[bool, bool]] = lambda: (False, False)  # of this process
        self.is_in_step = False  # and not between two of them
        self.requests_of_any = (False, False)  # (stop, pause): whether any process requests it

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer over all parameters, in groups of one rate each."""
        return self.make_optimizer(rates.groups(self.model, self.parameter_groups, self.agenda.steps))

    def train_dataloader(self) -> Steps:
        """This rank's micro-batches from the current step on."""
        return Steps(self.micro, self.share, self.global_rank, self.progress.step)

    def on_train_start(self) -> None:
        """Look up once what every step needs."""
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)  # there is one
        self.optimizer = optimizer
        self.slices = self.share.slices(self.global_rank)
        self.on_device = self.device
        self.is_alone = self.trainer.world_size == 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say in the checkpoint whose it is."""
        checkpoint["run"] = self.mark

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another run's checkpoint, naming the keys that differ."""
        mark = checkpoint.get("run") or {}
        if mark.get("identity") == self.mark.get("identity"):
            return
        changes = match.setting_changes(mark.get("config", {}), self.mark.get("config", {}))
        raise UserError(
            f"the checkpoint is of a run with a different configuration: {'; '.join(changes) or 'its identity differs'}"
        )

    def training_step(self, dataloader_iter: Iterator[Any]) -> None:
        """Take steps up to the next pause."""
        self.is_in_step = True
        while True:
            self._step(dataloader_iter)
            if self.progress.diverged or self.agenda.pauses(self.progress.step) or any(self.requests_of_any):
                self.is_in_step = False
                return

    def _step(self, dataloader_iter: Iterator[Any]) -> None:
        progress, step = self.progress, self.progress.step
        began = time.perf_counter()
        batches, _, _ = next(dataloader_iter)
        waited = time.perf_counter() - began

        sums = self._backward(batches, step)
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        loss, trained_on, norm_value = self._all_reduce_step(sums, norm)
        if not (math.isfinite(trained_on) and math.isfinite(norm_value)):
            what, value = ("gradient norm", norm_value) if math.isfinite(trained_on) else ("loss", trained_on)
            progress.diverged = f"the {what} was {value} at step {step + 1}"
            return

        rate = self.schedule(step)
        if not progress.spikes.take(step + 1, loss, norm_value):
            rates.set_rate(self.optimizer.param_groups, rate, step)
            if self.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(self.trained, self.clip_norm, norm)
            self.optimizer.step()
            self.averages.move(self.is_alone)
        for parameter in self.trained:
            parameter.grad = None
        progress.take(loss, norm_value, rate, waited)

    def _backward(self, batches: list[dict[str, Tensor]], step: int) -> Tensor:
        """Forward and backward of each micro-batch; returns (3,), float64: the sums of nats, of targets and of losses.

        What is logged of a step is nats a target, as of held-out text, so that rows with further terms in their
        training loss (auxiliary losses, z-loss) can be compared with those without.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self.on_device)
        self.averages.begin()
        for index, batch in zip(self.slices, batches, strict=True):
            if self.on_device.type != "cpu":
                batch = {name: tensor.to(self.on_device, non_blocking=True) for name, tensor in batch.items()}
            seed_dropout(self.dropout_seed, step, index, self.on_device)
            with self.autocast():
                loss, nll = self.model(batch)
            self.averages.take()
            sums += torch.cat([summed(batch, nll.detach()), loss.detach().double().reshape(1)])
            loss = loss / self.share.accumulation if self.share.accumulation > 1 else loss
            if self.is_alone:
                loss.backward()
            else:
                wrapped: Any = self.trainer.strategy.model  # DistributedDataParallel
                with nullcontext() if index == self.slices[-1] else wrapped.no_sync():
                    self.manual_backward(loss)
        return sums

    def _all_reduce_step(self, sums: Tensor, norm: Tensor) -> tuple[float, float, float]:
        """Over all processes: nats a target, training loss, gradient norm; a step waits for the device here alone."""
        if self.is_alone:
            self.requests_of_any = self.stop_or_pause_requests()
            nats, targets, loss, norm_value = torch.stack([*sums, norm.double()]).tolist()
        else:
            requests = [sums.new_tensor(float(request)) for request in self.stop_or_pause_requests()]
            # (6,): nats, targets, loss, norm, stop, pause. The norm is the same everywhere; its mean is so to the bit.
            reduced = torch.stack([*sums, norm.double(), *requests])
            torch.distributed.all_reduce(reduced)
            nats, targets, loss, norm_sum, stop, pause = reduced.tolist()
            self.requests_of_any = stop > 0, pause > 0
            norm_value = norm_sum / self.trainer.world_size
        return nats / targets if targets else 0.0, loss / self.share.count, norm_value


def seed_dropout(seed: int, step: int, index: int, device: torch.device) -> None:
    """Set torch's generators from (seed, step, slice of the global batch).

    So there is no state to save, and any number of processes draws the same numbers.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{index}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "big") >> 1
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
