"""How a run stands, read from its folder: the disk is the truth, no process is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.run.files import read_json
from ablate.run.folder import RunFolder
from ablate.run.lock import is_held
from ablate.run.record import DIVERGED, DONE, FAILED, FINISHED, PREEMPTED, RUNNING

MISSING = "missing"  # never begun
INTERRUPTED = "interrupted"  # it was running when its process, or the machine, went away
STATES = (DONE, DIVERGED, RUNNING, PREEMPTED, INTERRUPTED, FAILED, MISSING)


@dataclass(frozen=True)
class RunStatus:
    """A run as its folder has it."""

    folder: Path
    state: str
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether it has a result, of which divergence is one."""
        return self.state in FINISHED

    @property
    def reason(self) -> str:
        """Why it failed or diverged, in a line."""
        return " ".join(str(self.record.get("reason") or "").split())


def look(folder: Path) -> RunStatus:
    """Find out how the run in `folder` stands."""
    run = RunFolder(folder)
    record = read_json(run.record)
    state = record.get("status", MISSING)
    if state not in FINISHED and is_held(run.lock_file):
        state = RUNNING
    elif state == RUNNING:
        state = INTERRUPTED
    elif state not in STATES:
        state = FAILED
    return RunStatus(folder, state, record)


def heartbeat(folder: Path) -> dict[str, Any]:
    """What a run says of itself while it trains: step, steps, time, loss."""
    beat = read_json(RunFolder(folder).progress)
    return beat if isinstance(beat.get("step"), int) and isinstance(beat.get("steps"), int) else {}
