"""What a training step spends its time on: a run cut short, some steps of which torch's profiler watches."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from ablate.errors import UserError
from ablate.model.norm import Norm
from ablate.run.folder import RunFolder
from ablate.training.operator_classes import NORM_SCOPE, work_by_class
from ablate.training.speed import SpeedTrial, short_fit
from ablate.training.work import Work

WARM_UP = 3  # steps before those that are measured
STEPS = 8  # that are timed, and then as many that the profiler watches
NEEDED = WARM_UP + 2 * STEPS + 1  # steps of a run


class ProfileTrial(SpeedTrial):
    """Times some steps, and lets the profiler watch as many more.

    Its view changes in the middle of a step, between backward and update, where each step asks whether to stop: from
    there to the same place some steps later is the work of whole steps.
    """

    def __init__(self, *arguments: Any, profiler: profile, **options: Any) -> None:
        super().__init__(*arguments, seconds=float("inf"), **options)
        self.profiler = profiler
        self.calls = 0
        self.marks: dict[int, tuple[float, float]] = {}  # call -> seconds on the clock, and of the processor
        self.began = self.wall = 0.0  # of the watched steps

    def _stop_or_pause_requests(self) -> tuple[bool, bool]:
        self.calls += 1
        self.marks[self.calls] = _clocks()
        if self.calls == WARM_UP + STEPS:
            self.profiler.start()
            self.began = time.perf_counter()
        if self.calls == WARM_UP + 2 * STEPS:
            self.wall = time.perf_counter() - self.began
            self.profiler.stop()
        return self.is_through or self.interruption.signal is not None, False

    @property
    def is_through(self) -> bool:
        return self.calls >= WARM_UP + 2 * STEPS

    def step(self) -> tuple[float, float]:
        """The median of a step that the profiler does not watch: seconds on the clock, and of the processor."""
        marks = [self.marks[call] for call in range(WARM_UP, WARM_UP + STEPS + 1)]
        wall, processor = (
            statistics.median(after - before for before, after in pairwise(clock)) for clock in zip(*marks, strict=True)
        )
        return wall, processor


@dataclass(frozen=True)
class StepProfile:
    """A training step: its seconds on the clock and of the processor, and those of each class of work.

    The latter are of a step that the profiler watched, which took `watched_seconds`.
    """

    step_seconds: float
    processor_seconds: float
    watched_seconds: float
    work: dict[str, Work]

    def to_json(self) -> dict[str, Any]:
        work = {kind: [one.seconds, one.operations] for kind, one in self.work.items()}
        return {
            "step_seconds": self.step_seconds,
            "processor_seconds": self.processor_seconds,
            "watched_seconds": self.watched_seconds,
            "work": work,
        }


def profile_steps(cfg: DictConfig, folder: RunFolder, say: Callable[[str], None] = lambda line: None) -> StepProfile:
    """Train the run of `cfg` for some steps, and watch as many more.

    Raises `UserError` where the model is compiled, because its kernels are of no class, or where training ends early.
    """
    check(cfg)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    profiler = profile(activities=kinds, record_shapes=True)
    with norms_recorded():
        fit = short_fit(cfg, folder, functools.partial(ProfileTrial, profiler=profiler), say)
    trial = fit.callback
    assert isinstance(trial, ProfileTrial)
    if trial.interruption.signal is not None:
        raise KeyboardInterrupt
    if not trial.is_through:
        raise UserError(
            f"nothing to profile: {fit.progress.diverged or 'the run ended before enough steps were taken'}"
        )
    found = work_by_class(profiler.events() or (), trial.wall, of_device=fit.device_type == "cuda")
    by_step = {kind: Work(work.seconds / STEPS, work.operations // STEPS) for kind, work in found.items()}
    return StepProfile(*trial.step(), trial.wall / STEPS, by_step)


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for a run that cannot be profiled."""
    trainer = cfg.trainer
    if trainer.compile != "none":
        raise UserError(
            f"trainer.compile={trainer.compile}: a compiled kernel is of no one class; take trainer.compile=none"
        )
    if trainer.devices * trainer.nodes > 1:
        raise UserError(f"trainer.devices={trainer.devices}: one device is profiled; take trainer.devices=1")
    if trainer.steps < NEEDED:
        raise UserError(f"trainer.steps={trainer.steps}: a profile takes {NEEDED} steps")


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


@contextmanager
def norms_recorded() -> Iterator[None]:
    """What every `Norm` does meanwhile is seen by the profiler under one name."""
    began: list[Any] = []

    def begin(module: nn.Module, *_: Any) -> None:
        if isinstance(module, Norm):
            began.append(record_function(NORM_SCOPE))
            began[-1].__enter__()

    def end(module: nn.Module, *_: Any) -> None:
        if isinstance(module, Norm):
            began.pop().__exit__(None, None, None)

    handles = [
        nn.modules.module.register_module_forward_pre_hook(begin),
        nn.modules.module.register_module_forward_hook(end, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
