"""The state of a run, read from its folder alone: the disk is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.run.files import read_json
from ablate.run.folder import RunFolder
from ablate.run.lock import is_held
from ablate.run.record import DIVERGED, DONE, FAILED, FINISHED, PREEMPTED, RUNNING, Record

MISSING = "missing"  # never begun
INTERRUPTED = "interrupted"  # it was running when its process, or the machine, went away
STATES = (DONE, DIVERGED, RUNNING, PREEMPTED, INTERRUPTED, FAILED, MISSING)


@dataclass(frozen=True)
class RunStatus:
    """A run as its folder has it; `problem` is what is wrong with a record that cannot be used."""

    folder: Path
    state: str
    record: Record | None = None
    problem: str = ""

    @property
    def finished(self) -> bool:
        """Whether it has a result, of which divergence is one."""
        return self.state in FINISHED

    @property
    def reason(self) -> str:
        """Why it failed or diverged, in a line."""
        return " ".join((self.problem or (self.record.reason if self.record else "")).split())


def look(folder: Path) -> RunStatus:
    """The status of the run in `folder`; one whose record cannot be used has failed."""
    run = RunFolder(folder)
    record, problem = run.examine()
    state = FAILED if problem else record.status if record else MISSING
    if state not in FINISHED and is_held(run.lock_file):
        state = RUNNING
    elif state == RUNNING:
        state = INTERRUPTED
    return RunStatus(folder, state, record, problem)


def heartbeat(folder: Path) -> dict[str, Any]:
    """What a run says of itself while it trains: step, steps, time, loss."""
    beat = read_json(RunFolder(folder).progress)
    return beat if isinstance(beat.get("step"), int) and isinstance(beat.get("steps"), int) else {}
