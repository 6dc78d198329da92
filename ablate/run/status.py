"""The state of a run, read from its folder alone: the disk is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.run.files import read_json
from ablate.run.folder import RunFolder
from ablate.run.lock import is_held
from ablate.run.record import DIVERGED, DONE, FAILED, FINISHED, LARGEST, PREEMPTED, RUNNING, Record

MISSING = "missing"  # never begun
INTERRUPTED = "interrupted"  # it was running when its process, or the machine, went away
STATES = (DONE, DIVERGED, RUNNING, PREEMPTED, INTERRUPTED, FAILED, MISSING)


@dataclass(frozen=True)
class RunStatus:
    """A run as its folder has it; `problem` is what is wrong with a record that cannot be used.

    is_damaged: the run is made again, or its record rebuilt, when it is asked for again. is_stored: the folder is not
    there, and the record is that of a report.
    """

    folder: Path
    state: str
    record: Record | None = None
    problem: str = ""
    is_damaged: bool = False
    is_stored: bool = False

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
    found = run.examine()
    state = FAILED if found.problem else found.record.status if found.record else MISSING
    if state not in FINISHED and is_held(run.lock_file):
        state = RUNNING
    elif state == RUNNING:
        state = INTERRUPTED
    return RunStatus(folder, state, found.record, found.problem, found.is_damaged)


def heartbeat(folder: Path) -> dict[str, Any]:
    """What a run says of itself while it trains: step, steps, time, loss, elapsed; empty where it cannot be read."""
    beat = read_json(RunFolder(folder).progress)
    steps = all(type(beat.get(key)) is int and 0 <= beat[key] <= LARGEST for key in ("step", "steps"))
    numbers = (beat.get(key) for key in ("time", "loss", "elapsed"))
    usable = all(value is None or (type(value) in (int, float) and abs(value) <= LARGEST) for value in numbers)
    return beat if steps and usable else {}


def seconds_spent(folder: Path, record: Record) -> float:
    """The wall time of all attempts at a run, with that of one that was killed, up to its last sign of life."""
    killed = heartbeat(folder).get("elapsed") if record.status == RUNNING else None
    return (record.seconds or 0.0) + max(0.0, killed or 0.0)
