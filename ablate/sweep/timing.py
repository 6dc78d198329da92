"""The exclusive timing pass: each row's speed with nothing else running, in rounds over all rows.

round 1:  baseline  row 1  row 2  ...      a speed measured beside other runs says little, and one
round 2:  ...  row 2  row 1  baseline      machine is not equally fast at all times: so one row after the
round 3:  baseline  row 1  row 2  ...      other, there and back; a row's speed is the median of its rounds
"""

from __future__ import annotations

import json
import shutil
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.duration import duration
from ablate.run.files import atomic_write, read_json
from ablate.run.folder import RunFolder, run_folders
from ablate.run.lock import Busy, held_in_turn, is_held, renew
from ablate.run.record import DONE, RUNNING, Record, StepsPerSecond
from ablate.run.status import look
from ablate.study.runs import planned
from ablate.sweep.preflight import RunRequest
from ablate.sweep.scheduler import last_line
from ablate.sweep.session import Session

LOCK = "timing.lock"  # in a sweep's folder, held during a pass
ROUNDS = 3
SHARE = 0.1  # of the seconds that the runs took
LEAST = 60.0
SHORTEST, LONGEST = 0.5, 3.0  # seconds of training at a time
START = 0.5  # seconds until it trains
PATIENCE = 120.0  # seconds beyond the end of the pass for one that compiles


def measure(session: Session, items: Sequence[RunRequest]) -> None:
    """Time every row that has a trained seed 0, unless all have been timed as they are now.

    A row that is new makes all rows be timed again, so that all speeds of a report are from one pass. The speeds go to
    `steps_per_second.exclusive` of each row's seed 0, and with what was skipped to `timing.json` beside the rows.
    """
    name, folder = session.sweep.name, session.paths.runs / session.sweep.name

    def waiting(holder: str) -> None:
        session.display.say(f"{name}: another process times its rows; waiting for {holder}")

    try:
        with held_in_turn(folder / LOCK, waiting=waiting, until=lambda: bool(session.interruption)):
            _measure(session, folder, items)
    except Busy as busy:
        session.display.say(f"{name}: not timed, {busy}")


def _measure(session: Session, folder: Path, items: Sequence[RunRequest]) -> None:
    """The same, alone."""
    sweep = session.sweep
    found = {item: look(item.folder) for item in items if item.run.seed == 0}
    records = {item: status.record for item, status in found.items() if status.state == DONE and status.record}
    known = _known_rows(folder / "timing.json")
    again = session.options.timing is not None  # more time may do for what was skipped
    if session.interruption or all(_is_known(item, records[item], known, again) for item in records):
        return
    everything = {run: look(run.folder(session.paths.runs)).state for run in planned(sweep)}
    if RUNNING in everything.values() or _others(session):
        session.display.say(f"{sweep.name}: not timed, other runs are under way")
        return
    requested = {(item.run.row, item.run.seed) for item in items}
    if any(session.stored.look(item.run.row, 0, item.folder).is_stored for item in items if item.run.seed == 0):
        session.display.say(f"{sweep.name}: not timed, the runs of some rows are only in {session.stored.file}")
        return
    others = [run.row for run, state in everything.items() if run.seed == 0 and state == DONE]
    if left := [row for row in others if (row, 0) not in requested]:
        session.display.say(f"{sweep.name}: not timed, {len(left)} finished rows are not among those to run")
        return
    spent = sum(record.seconds or 0.0 for record in records.values())
    budget = _budget(spent) if session.options.timing is None else session.options.timing
    session.display.say(f"{sweep.name}: timing {len(records)} rows, one at a time, at most {duration(budget)}")
    timed = _Pass(session, folder, budget, len(records)).rounds(list(records))
    session.display.note("")
    if session.interruption:
        return
    if timed is None:
        session.display.say(f"{sweep.name}: not timed, other runs began meanwhile; the same command times again")
        return
    rows = {}
    for item, (speeds, error) in timed.items():
        exclusive = statistics.median(speeds) if speeds else None
        rows[item.run.row] = {
            "identity": records[item].identity,
            "steps_per_second": speeds,
            "exclusive": exclusive,
            "skipped": None if speeds else error or f"no time left within {duration(budget)}",
        }
        _write(item, exclusive)
    skipped = [f"{row} ({timing['skipped']})" for row, timing in rows.items() if timing["skipped"]]
    if skipped:
        session.display.say(f"{sweep.name}: not timed: {', '.join(skipped)}")
    text = json.dumps({"rounds": ROUNDS, "rows": {**known, **rows}}, indent=1)
    atomic_write(folder / "timing.json", text)


def forecast(spent: float, rows: int, start: float = START) -> float:
    """The seconds of a pass over `rows` rows whose first runs took `spent` seconds, each `start` until it trains."""
    budget = _budget(spent)
    return min(budget, rows * ROUNDS * (start + _slice(budget, rows)))


def _budget(spent: float) -> float:
    return max(LEAST, SHARE * spent)


def _slice(budget: float, rows: int) -> float:
    """The seconds for which a row is trained at a time."""
    return min(LONGEST, max(SHORTEST, budget / (ROUNDS * max(rows, 1)) - START))


def _known_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier pass; what is damaged counts as not timed."""
    rows = read_json(path).get("rows")
    return {row: timing for row, timing in rows.items() if isinstance(timing, dict)} if isinstance(rows, dict) else {}


def _is_known(item: RunRequest, record: Record, known: dict[str, Any], again: bool) -> bool:
    """Whether the row was timed as it is now, or skipped and is not to be tried `again`."""
    before = known.get(item.run.row)
    if before is None or (again and record.exclusive_speed is None):
        return False
    return (before.get("identity"), before.get("exclusive")) == (record.identity, record.exclusive_speed)


class _Pass:
    """One timing pass over `rows` rows that is to end after `budget` seconds."""

    def __init__(self, session: Session, folder: Path, budget: float, rows: int):
        self.session, self.folder = session, folder
        self.deadline = time.monotonic() + budget
        self.seconds = _slice(budget, rows)

    def rounds(self, items: list[RunRequest]) -> dict[RunRequest, tuple[list[float], str]] | None:
        """Each row's speeds, and what went wrong where there is none; None where runs of others began."""
        timed: dict[RunRequest, tuple[list[float], str]] = {item: ([], "") for item in items}
        for number in range(ROUNDS):
            for item in items if number % 2 == 0 else reversed(items):
                speeds, error = timed[item]
                if error:
                    continue
                if self.session.interruption or time.monotonic() > self.deadline:
                    return timed
                renew(self.folder / LOCK)
                self.session.display.note(f"timing {item.run.row}, round {number + 1} of {ROUNDS}")
                speed, error = self._once(item)
                timed[item] = ([*speeds, speed] if speed else speeds, error)
            if _others(self.session):
                return None
        return timed

    def _once(self, item: RunRequest) -> tuple[float | None, str]:
        """Steps per second of a short run of its own; or None and why."""
        scratch, log, starters = self.folder / ".timing", self.folder / "timing.log", self.session.starters
        _clear(scratch)
        _clear(log)
        scratch.mkdir()
        result = scratch / "result.json"
        job = {"config": item.config, "scratch": str(scratch / "run"), "seconds": self.seconds}
        handle = starters.start(starters.program.measure, {**job, "result": str(result)}, log, item.trainer)
        while (code := handle.poll()) is None:
            if self.session.interruption or time.monotonic() > self.deadline + PATIENCE:
                starters.stop([handle], signal.SIGKILL)
            time.sleep(0.02)
        speed = _speed(read_json(result).get("steps_per_second"))
        _clear(scratch)
        return speed, "" if speed else last_line(log) or f"exit code {code}"


def _speed(value: object) -> float | None:
    """A speed that a file gives; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if value > 0 else None


def _clear(path: Path) -> None:
    """Delete a file, a link or a folder of an earlier pass."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _others(session: Session) -> bool:
    """Whether any run of any sweep is under way among these folders; others of this machine are not known."""
    return any(is_held(RunFolder(folder).lock_file) for folder in run_folders(session.paths.runs))


def _write(item: RunRequest, exclusive: float | None) -> None:
    folder = RunFolder(item.folder)
    with folder.lock():
        if record := folder.read():
            speed = replace(record.steps_per_second or StepsPerSecond(), exclusive=exclusive)
            folder.write(replace(record, steps_per_second=speed))
