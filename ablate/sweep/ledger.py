"""How each run of a sweep stands, read from its folder: the disk is the truth, no process is asked."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.record import DIVERGED, DONE, FAILED, PREEMPTED, RUNNING, run_path
from ablate.sweep.plan import PlannedRun, Sweep

MISSING = "missing"  # never begun
DEAD = "interrupted"  # it was running when its process, or the machine, went away
STATES = (DONE, DIVERGED, RUNNING, PREEMPTED, DEAD, FAILED, MISSING)


@dataclass(frozen=True)
class Found:
    """A run as its folder has it."""

    run: PlannedRun
    folder: Path
    state: str
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it has a result, of which divergence is one."""
        return self.state in (DONE, DIVERGED)

    @property
    def reason(self) -> str:
        """Why it failed or diverged, in a line."""
        return " ".join(str(self.record.get("reason") or "").split())


def look(sweep: Sweep, run: PlannedRun, runs_folder: str | Path) -> Found:
    """Find out how one run stands."""
    folder = run_path(Path(runs_folder), sweep.name, run.row, run.seed)
    record = read_json(folder / "record.json")
    state = record.get("status", MISSING)
    if state not in (DONE, DIVERGED) and is_held(folder / "lock"):
        state = RUNNING
    elif state == RUNNING:
        state = DEAD
    elif state not in STATES:
        state = FAILED
    return Found(run, folder, state, record)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, or none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_held(path: Path) -> bool:
    """Whether a live process holds the lock at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def heartbeat(folder: Path) -> dict[str, Any]:
    """What a run says of itself while it trains: step, steps, time, loss."""
    beat = read_json(folder / "progress.json")
    return beat if isinstance(beat.get("step"), int) and isinstance(beat.get("steps"), int) else {}
