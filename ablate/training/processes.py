"""One run in several processes: a worker a device, started by torchrun."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig

from ablate import agent
from ablate.errors import UserError
from ablate.orphans import die_with_parent
from ablate.termination import leave_closed_terminal, requests

# How long the processes wait for one another in a collective operation; then all of them fail.
COLLECTIVE_LIMIT = datetime.timedelta(minutes=10)
STOP_LIMIT = agent.TO_SAVE + 60.0  # seconds that all processes have to end after a signal, then they are killed


def world_size(cfg: DictConfig) -> int:
    """How many processes the run has."""
    return int(cfg.trainer.devices * cfg.trainer.nodes)


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Which of the run's processes this is."""
    return int(os.environ.get("RANK", "0")) if is_worker() else 0


def local_rank() -> int:
    """Which of the run's processes on this machine this is; it has the device of that number."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_worker() else 0


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def launch(cfg: DictConfig, job: Mapping[str, Any], folder: Path) -> int:
    """Start the run's processes on this machine, pass signals on to them, and wait; returns the agent's exit code.

    `job` is what `ablate.worker` reads.

    How it went is in their record, in `folder`. A second Ctrl-C kills them. Raises `UserError` for
    several nodes: there each starts torchrun itself.
    """
    if cfg.trainer.nodes > 1:
        raise UserError(
            f"trainer.nodes={cfg.trainer.nodes}: start it on each node with torchrun --nnodes {cfg.trainer.nodes} "
            f"--nproc_per_node {cfg.trainer.devices} --rdzv_backend c10d --rdzv_id ANY_NAME "
            "--rdzv_endpoint FIRST_NODE:29400 -m ablate train ..."
        )
    started = subprocess.Popen(
        agent.command(cfg.trainer.devices, "ablate.worker", [json.dumps(job)], folder),
        start_new_session=True,  # Ctrl-C is passed on once, not felt twice
        preexec_fn=die_with_parent,
    )
    asked: list[float] = []  # when to stop

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_closed_terminal()
        again = bool(asked) and number == signal.SIGINT
        started.send_signal(signal.SIGKILL if again else signal.SIGTERM if number == signal.SIGHUP else number)
        asked.append(time.monotonic())

    numbers = requests() if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        while True:
            try:
                return started.wait(1.0)
            except subprocess.TimeoutExpired:
                if asked and time.monotonic() > asked[0] + STOP_LIMIT:
                    started.kill()  # it is stopped, say; the processes die with it
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
