"""From a config and a corpus to a trained model: everything put together, and Lightning's trainer around it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from ablate import allocator
from ablate.config import build_model, effective, evaluations, fill, points, resolved
from ablate.config.batch import share
from ablate.data.batches import Batches
from ablate.evaluation.contract import Context
from ablate.model import recomputing
from ablate.run.folder import RunFolder
from ablate.run.score import Score
from ablate.training import checkpoint, compiling, environment, past_points, processes
from ablate.training.callback import RunCallback
from ablate.training.device import device_type
from ablate.training.first_loss import FirstLoss
from ablate.training.interruption import Interruption
from ablate.training.lightning import DDPStrategy, L, LightningEnvironment, TorchElasticEnvironment
from ablate.training.module import Training
from ablate.training.out_of_memory import Room, Shortage, noticed
from ablate.training.progress import Agenda, Progress
from ablate.training.scoring import Scored, Scoring, autocast
from ablate.training.spikes import Spikes

HARMLESS = (  # what Lightning and torch say of things that are as they should be
    ".*`dataloader_iter`.*",
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*litlogger.*",
    ".*`srun` command is available.*",
)


@dataclass(frozen=True)
class Outcome:
    """How training ended, and what was measured on the way (keys of the record)."""

    stopped: bool  # by a signal, with a checkpoint
    diverged: str  # why; empty if it has not
    measured: dict[str, Any]
    shortage: Shortage | None = None  # of memory, which has ended it in a step


class Fit:
    """One run's training in this process."""

    def __init__(
        self,
        cfg: DictConfig,
        corpus: Any,
        folder: RunFolder,
        identity: str,
        interruption: Interruption,
        say: Callable[[str], None],
        listeners: tuple[Callable[[dict[str, Any]], None], ...] = (),
        callback: Callable[..., RunCallback] = RunCallback,
    ) -> None:
        self.cfg, self.folder, self.identity, self.say = cfg, folder, identity, say
        self.device_type = device_type(cfg)
        prepare_process(cfg, self.device_type)
        self.peak_memory = environment.PeakMemory(self.device_type)  # of the training alone
        self.room = Room(self.device_type)
        self.batches = Batches(cfg, corpus)
        self.scoring = Scoring(cfg, corpus, self.batches, folder, identity)
        self.progress = Progress(Spikes(cfg.trainer.skip_spikes))
        self.is_trained = False
        self.agenda = agenda(cfg)
        self.model = build_model(cfg)
        if cfg.trainer.get("recompute"):  # configs of earlier versions do not have it
            recomputing.recompute(self.model)
        compiling.compile_for_training(self.model, cfg.trainer.compile)
        self.module = Training(
            self.model,
            fill(cfg, "optimizer"),
            fill(cfg, "schedule"),
            self.batches.micro,
            share(cfg),
            self.agenda,
            self.progress,
            parameter_groups=resolved(cfg)["parameter_groups"],
            clip_norm=cfg.trainer.clip_norm,
            dropout_seed=cfg.seed.dropout,
            autocast=autocast(cfg.trainer.precision, self.device_type),
            mark={"identity": identity, "config": effective(cfg)},
        )
        self.first_loss = FirstLoss(self.model, cfg.shape.vocab_size, say)
        self.callback = callback(
            folder,
            self.agenda,
            self.progress,
            interruption,
            self._evaluate,
            self._score,
            say,
            score_at=self._score_at,
            score_past=self._score_past,
            is_main=processes.is_main(),
            save_last=cfg.keep_checkpoints == "all" or bool(self.scoring.after),
            listeners=(self.first_loss, *listeners),
        )

    def run(self) -> Outcome:
        """Train to the end, a signal or a divergence, from the newest whole checkpoint if there is one."""
        newest = self.callback.checkpoints.newest(self.say, set_aside=processes.is_main())
        with noticed(self.room, lambda: self.module.is_in_step) as shortages:
            self.train(newest)
        if shortages:
            return Outcome(False, "", {}, shortages[0])
        if not self.callback.has_stopped:
            self._keep()
        measured = {**self._measured(), **self.callback.scored.fields()}
        diverged = self.first_loss.explained(self.progress.diverged, self.progress.step)
        return Outcome(self.callback.has_stopped, diverged, measured)

    def train(self, checkpoint_path: Path | None = None) -> None:
        """Train until the callback ends it."""
        self.trainer = make_trainer(self.cfg, self.device_type, self.folder, [self.callback])
        with self.callback.bar:
            self.trainer.fit(self.module, ckpt_path=checkpoint_path, weights_only=True)

    def _evaluate(self, stop: Callable[[], bool]) -> dict[str, Score]:
        """What the evaluation that is part of training finds; raises `StopRequested`."""
        with compiling.as_it_is(self.cfg.trainer.compile):
            found = self.scoring.of_training.evaluate(self.model, self.context(stop))
        assert isinstance(found, dict), "an evaluation that is part of training has its scores, or raises"
        return found

    def _score(self, stop: Callable[[], bool]) -> Scored:
        """What the other evaluations find once the model is trained."""
        self._note_peak_memory()
        self.is_trained = True
        with compiling.as_it_is(self.cfg.trainer.compile):
            return self.scoring.score(self.model, self.context(stop), stop, self.say)

    def _score_at(self, step: int, stop: Callable[[], bool]) -> bool:
        """Take the evaluations that are due after `step`; False where a signal came in between."""
        self._note_peak_memory()
        with compiling.as_it_is(self.cfg.trainer.compile):
            is_through = self.scoring.score_at(step, self.model, self.context(stop), stop, self.say)
        self.peak_memory.forget()
        return is_through

    def _score_past(self, step: int, stop: Callable[[], bool]) -> bool:
        """The same for points before `step`, which this run goes on after, where their weights are there."""
        folder = self.callback.checkpoints
        with compiling.as_it_is(self.cfg.trainer.compile):
            return past_points.score(self.scoring, folder, step, self.context(stop), stop, self.say)

    def _note_peak_memory(self) -> None:
        self.peak_memory.note(self.trainer.strategy.root_device)

    def context(self, stop: Callable[[], bool]) -> Context:
        """What an evaluation is given."""
        device = self.trainer.strategy.root_device
        return self.scoring.context(device, self.trainer.global_rank, self.trainer.world_size, stop)

    def _keep(self) -> None:
        """Leave the weights in checkpoints/ if `keep_checkpoints` says so."""
        if processes.is_main() and self.cfg.keep_checkpoints != "none":
            content = {
                "state_dict": self.model.state_dict(),
                "identity": self.identity,
                "step": self.progress.step,
            }
            checkpoint.save(content, self.folder.weights)

    def clear(self) -> None:
        """Delete the checkpoints that `keep_checkpoints` does not want, once the record says what came of the run."""
        if processes.is_main() and self.cfg.keep_checkpoints != "all":
            self.callback.checkpoints.clear()

    def _measured(self) -> dict[str, Any]:
        timer, losses = self.progress.timer, self.callback.losses
        early, final = losses.get(str(self.agenda.early_step)), losses.get(str(self.agenda.steps))
        if not self.is_trained:
            self._note_peak_memory()
        return {
            "step": self.progress.step,
            "steps_per_second": {**timer.steps_per_second(), "exclusive": None},
            "data_wait_fraction": timer.data_wait_fraction(),
            "peak_memory_bytes": self.peak_memory.bytes,
            "loss": {
                "early": early and early["loss"],
                "final": final and final["loss"],
                "early_step": self.agenda.early_step,
                "final_step": self.agenda.steps,
                "bits_per_byte": final and final["bits_per_byte"],
                "early_bits_per_byte": early and early["bits_per_byte"],
                "tokens": final and final["tokens"],
                "bytes": final and final["bytes"],
            },
            **self.progress.spikes.fields(),
        }


def agenda(cfg: DictConfig) -> Agenda:
    """What is due when."""
    trainer = cfg.trainer
    early = points.step_of(cfg.early_fraction, trainer.steps)
    scored = frozenset(step for steps in evaluations.points_before_end(resolved(cfg)).values() for step in steps)
    return Agenda(trainer.steps, early, trainer.log_every, trainer.evaluate_every, trainer.checkpoint_every, scored)


def prepare_process(cfg: DictConfig, device_type: str) -> None:
    """Threads, memory, denormals and what Lightning says: the same for every run."""
    allocator.keep_large_blocks()
    torch.set_num_threads(cfg.trainer.threads)
    prepare_arithmetic(device_type)
    compiling.prepare(cfg.trainer.compile)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in HARMLESS:
        warnings.filterwarnings("ignore", message)


def prepare_arithmetic(device_type: str) -> None:
    """How this process calculates, in training and where training is measured."""
    torch.set_flush_denormal(True)  # an unscaled attention makes many, and each costs a hundred cycles
    if device_type == "cuda":
        torch.set_float32_matmul_precision("high")
        # Its gradients have been NaN where a mask hides nearly all keys (pytorch issue 196678): a row that "diverged".
        torch.backends.cuda.enable_cudnn_sdp(False)


def make_trainer(cfg: DictConfig, device_type: str, folder: RunFolder, callbacks: list[L.Callback]) -> L.Trainer:
    """Lightning's trainer with nothing on that costs time at each step."""
    strategy: Any = "auto"
    if processes.world_size(cfg) > 1:
        backend = "nccl" if device_type == "cuda" else "gloo"
        strategy = DDPStrategy(
            process_group_backend=backend, timeout=processes.COLLECTIVE_LIMIT, gradient_as_bucket_view=True
        )
    cluster = TorchElasticEnvironment() if processes.is_worker() else LightningEnvironment()
    return L.Trainer(
        accelerator="gpu" if device_type == "cuda" else "cpu",
        devices=cfg.trainer.devices,
        num_nodes=cfg.trainer.nodes,
        strategy=strategy,
        max_steps=-1,  # the callback ends it, after the last evaluation
        max_epochs=-1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[checkpoint.AtomicCheckpointIO(), cluster],
        callbacks=callbacks,
        default_root_dir=os.fspath(folder.path),
    )
