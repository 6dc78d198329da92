"""One run in several processes: a worker a device, started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from types import FrameType

from omegaconf import DictConfig

from ablate.errors import UserError
from ablate.orphans import die_with_parent

# Seconds that torchrun leaves its workers to save after a SIGTERM, where it knows this variable; else 30.
TO_SAVE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "110"}


def world_size(cfg: DictConfig) -> int:
    """How many processes the run has."""
    return int(cfg.trainer.devices * cfg.trainer.nodes)


def is_worker() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Which of the run's processes this is."""
    return int(os.environ.get("RANK", "0")) if is_worker() else 0


def is_main() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def launch(cfg: DictConfig, overrides: list[str], command: str) -> int:
    """Start the run's processes on this machine, pass signals on to them, and wait; returns torchrun's exit code.

    How it went is in their record. Raises `UserError` for several nodes: there each starts torchrun itself.
    """
    if cfg.trainer.nodes > 1:
        raise UserError(
            f"trainer.nodes={cfg.trainer.nodes}: start it on each node with torchrun --nnodes {cfg.trainer.nodes} "
            f"--nproc_per_node {cfg.trainer.devices} --rdzv_backend c10d --rdzv_id ANY_NAME "
            "--rdzv_endpoint FIRST_NODE:29400 -m ablate train ..."
        )
    job = json.dumps({"overrides": overrides, "command": command})
    started = subprocess.Popen(
        [
            *(sys.executable, "-u", "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", str(cfg.trainer.devices), "-m", "ablate.worker", job),
        ],
        start_new_session=True,  # Ctrl-C is passed on once, not felt twice
        env={**os.environ, **TO_SAVE},
        preexec_fn=die_with_parent,
    )

    def pass_on(number: int, _: FrameType | None) -> None:
        started.send_signal(number)

    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        return started.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
