"""Runs as jobs of a Slurm cluster, through submitit: one array, one task a run.

The driver only submits, watches the heartbeats on the shared file system, and cancels when it is stopped. The file
system has to carry locks between nodes (flock: NFS 4 does, Lustre when mounted with `flock`). Tested with submitit's
local executor, not yet on a cluster.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.sweep.devices import uses_gpu
from ablate.sweep.workers import Forked, Program, start_fresh

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # that a job's time is nearly over, as submitit asks for
CORES_A_GPU = 4  # it compiles, and reads text
NAMES = {"minutes": "timeout_min", "memory_gb": "mem_gb"}  # the rest is handed to Slurm unchanged


class SlurmStarters:
    """Starts each run as a Slurm job; `settings` are such as {"partition": "gpu", "minutes": 240}."""

    can_time = False  # who knows what else runs on a node

    def __init__(self, program: Program, folder: Path, settings: dict[str, Any], jobs: int):
        from submitit import AutoExecutor

        self.program, self.forked = program, Forked(program.preload)
        self.pending: list[SlurmJob] = []  # started, and not yet submitted
        self.jobs = math.inf  # all are submitted at once; the array keeps to `jobs`
        settings = dict(settings)
        cluster = settings.pop("cluster", "slurm")
        if cluster == "slurm" and "minutes" not in settings:
            raise UserError("slurm: give minutes, the longest that a run may take (submitit's own limit is five)")
        self.here = cluster != "slurm"  # whether runs will find the devices that this machine has
        try:
            self.executor = AutoExecutor(folder=folder, cluster=cluster)
        except RuntimeError as error:
            raise UserError(f"slurm: {error}") from None
        self.parameters = {NAMES.get(key, f"slurm_{key}"): value for key, value in settings.items()}
        if cluster == "slurm":
            self.parameters["slurm_array_parallelism"] = jobs

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is started inside becomes an array for each kind of machine."""
        self.pending = []
        yield
        kinds: dict[tuple[int, int, int], list[SlurmJob]] = {}
        for job in self.pending:
            kinds.setdefault(job.needs, []).append(job)
        for (nodes, cpus, gpus), members in kinds.items():
            self.executor.update_parameters(
                nodes=nodes, tasks_per_node=1, cpus_per_task=cpus, gpus_per_node=gpus, **self.parameters
            )
            with self.executor.batch():
                for job in members:
                    job.job = self.executor.submit(task, *job.call)

    def start(self, entry: str, argument: Any, log: Path, trainer: Any) -> SlurmJob:
        """Have a job submitted that will compute as `trainer` (a config) says."""
        if trainer.accelerator == "auto" and not self.here:
            raise UserError("slurm: say trainer=gpu or trainer=cpu; this machine cannot know what the nodes have")
        gpus = trainer.devices if uses_gpu(trainer) else 0
        needs = (1, max(trainer.threads * trainer.devices, CORES_A_GPU * gpus), gpus)
        job = SlurmJob((entry, argument, str(log.absolute()), trainer.devices), needs)
        self.pending.append(job)
        return job

    def close(self) -> None:
        """End the fork server that prepared the text."""
        self.forked.close()


class SlurmJob:
    """A job that Slurm has, or had."""

    def __init__(self, call: tuple[str, Any, str, int], needs: tuple[int, int, int]):
        self.call, self.needs = call, needs  # what `task` is given; nodes, CPUs, GPUs
        self.job: Any = None

    @property
    def waits(self) -> bool:
        """Whether it still waits for its turn."""
        return not self.job.done() and self.job.state.upper() in ("PENDING", "REQUEUED", "UNKNOWN")

    def poll(self) -> int | None:
        """None while it lives, then its exit code; 1 where it ended without telling one."""
        if not self.job.done():
            return None
        error = self.job.exception()
        return int(self.job.result()) if error is None else 1

    def stop(self, number: int) -> None:
        """Cancel it; Slurm sends SIGTERM, and SIGKILL after its KillWait."""
        self.job.cancel(check=False)


def task(entry: str, argument: Any, log: str, devices: int) -> int:
    """What the node does: one run, in processes of its own; returns its exit code.

    Where its time is nearly over Slurm sends the signal that submitit requested; the run gets SIGTERM and saves, so
    that the same command goes on from there. The warning reaches every process of the job, and would end those that
    do not handle it.
    """
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)  # what is started inherits this
    handle = start_fresh(entry, argument, Path(log), devices)
    for number in (signal.SIGTERM, *WARNINGS):
        signal.signal(number, lambda *_: handle.stop(signal.SIGTERM))
    return handle.process.wait()
