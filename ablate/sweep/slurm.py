"""Runs as jobs of a Slurm cluster, through submitit: one array, one task a run.

The driver only submits, watches the heartbeats on the shared file system, and cancels when it is stopped. The file
system has to carry locks between nodes (flock: NFS 4 does, Lustre when mounted with `flock`). Tested with submitit's
local executor, not yet on a cluster.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ablate.duration import duration
from ablate.errors import UserError
from ablate.machine import uses_gpu
from ablate.process_tree import descendants
from ablate.sweep import slurm_queue
from ablate.sweep.workers import Forked, Program, start_fresh
from ablate.training.processes import STOP_LIMIT

SUBMIT_LIMIT = 120.0  # seconds that sbatch may take
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # that a job's time is nearly over, as submitit asks for
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SUSPENDED")  # for its turn
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
        self.queue = slurm_queue.Queue() if cluster == "slurm" else None
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
            self._submit(members)

    def _submit(self, jobs: list[SlurmJob]) -> None:
        """Submit jobs as one array; raises `UserError` where Slurm refuses, or has not answered for a while."""
        from submitit.core.utils import FailedJobError

        errors: list[Exception] = []

        def submit() -> None:
            try:
                with self.executor.batch():
                    submitted = [self.executor.submit(task, *job.call) for job in jobs]
                for job, its in zip(jobs, submitted, strict=True):
                    job.job = its
            except Exception as error:  # to be raised by who waits
                errors.append(error)

        before = set(descendants(os.getpid()))
        thread = threading.Thread(target=submit, daemon=True)
        thread.start()
        thread.join(SUBMIT_LIMIT)
        if thread.is_alive():
            for pid in set(descendants(os.getpid())) - before:  # submitit waits for sbatch without a limit
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise UserError(
                f"slurm: sbatch has not answered for {duration(SUBMIT_LIMIT)}; squeue says whether it took the jobs"
            )
        if errors and not isinstance(errors[0], FailedJobError):
            raise errors[0]
        if errors:
            said = str(errors[0]).strip().splitlines() or ["sbatch failed"]
            raise UserError(f"slurm: {said[-1]}")

    def start(self, entry: str, argument: Any, log: Path, trainer: Any) -> SlurmJob:
        """Have a job submitted that will compute as `trainer` (a config) says."""
        if trainer.accelerator == "auto" and not self.here:
            raise UserError("slurm: say trainer=gpu or trainer=cpu; this machine cannot know what the nodes have")
        gpus = trainer.devices if uses_gpu(trainer) else 0
        needs = (1, max(trainer.threads * trainer.devices, CORES_A_GPU * gpus), gpus)
        job = SlurmJob((entry, argument, str(log.absolute()), trainer.devices), needs, self.queue)
        self.pending.append(job)
        return job

    def stop(self, jobs: Sequence[Any], number: int) -> str:
        """Cancel jobs, all in one call; returns what to do by hand where that failed.

        Slurm sends SIGTERM, and SIGKILL after its KillWait.
        """
        if self.queue is None:
            for job in jobs:
                if job.job:
                    job.job.cancel(check=False)
            return ""
        left = [job for job in jobs if job.job and not job.is_cancelled]  # Slurm kills what does not end by itself
        trouble = slurm_queue.cancel([job.job.job_id for job in left])
        for job in left:
            job.is_cancelled = not trouble
        return trouble

    def close(self) -> None:
        """End the fork server that prepared the text."""
        self.forked.close()


class SlurmJob:
    """A job that Slurm has, or had."""

    kill_seconds = 0.0  # it is Slurm's to end it, and nobody waits for that

    def __init__(
        self, call: tuple[str, Any, str, int], needs: tuple[int, int, int], queue: slurm_queue.Queue | None = None
    ):
        self.call, self.needs = call, needs  # what `task` is given; nodes, CPUs, GPUs
        self.queue = queue  # None: a process of this machine, as submitit's local executor starts it
        self.job: Any = None  # submitit's
        self.is_cancelled = False
        self.reason = ""  # why it ended, where Slurm lost it

    @property
    def waits(self) -> bool:
        """Whether it still waits for its turn."""
        if self.queue is None or self._has_ended():
            return False
        return self.queue.state(self.job.job_id) in ("", *WAITING)

    def poll(self) -> int | None:
        """None while it lives, then its exit code; 1 where it ended without telling one."""
        if not self._has_ended():
            return None
        if self.reason:
            return 1
        error = self.job.exception()
        return int(self.job.result()) if error is None else 1

    def obstacle(self) -> str:
        """What keeps it from going on: a node keeps that to itself."""
        return ""

    def _has_ended(self) -> bool:
        """Whether there is a result, or can be none any more, which `reason` then says."""
        if self.job is None:
            self.reason = "it could not be submitted"
            return True
        if self.queue is None:
            return bool(self.job.done())
        if self.reason or self.job.paths.result_pickle.exists():
            return True
        self.reason = self.queue.gone(self.job.job_id)
        return bool(self.reason)


def task(entry: str, argument: Any, log: str, devices: int) -> int:
    """What the node does: one run, in processes of its own; returns its exit code.

    Where its time is nearly over Slurm sends the signal that submitit requested; the run gets SIGTERM and saves, so
    that the same command goes on from there. The warning reaches every process of the job, and would end those that
    do not handle it.
    """
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)  # what is started inherits this
    handle = start_fresh(entry, argument, Path(log), devices)
    asked: list[float] = []  # when to stop

    def stop(*_: Any) -> None:
        asked.append(time.monotonic())
        handle.stop(signal.SIGTERM)

    for number in (signal.SIGTERM, *WARNINGS):
        signal.signal(number, stop)
    while True:
        try:
            return handle.process.wait(1.0)
        except subprocess.TimeoutExpired:
            if asked and time.monotonic() > asked[0] + STOP_LIMIT:
                handle.stop(signal.SIGKILL)
