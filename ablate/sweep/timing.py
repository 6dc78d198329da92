"""The exclusive timing pass: each row's speed with no other run under way, in rounds over all rows.

round 1:  baseline  row 1  row 2  ...      a speed measured beside other runs says little, and one
round 2:  ...  row 2  row 1  baseline      machine is not equally fast at all times: so one row after the
round 3:  baseline  row 1  row 2  ...      other, there and back; a row's speed is the median of its rounds

A row has rounds until the interval of its speed relative to the baseline's is narrow, or the time is over. What other
processes of the machine use meanwhile is measured, and stands beside the rounds in the record.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.duration import duration
from ablate.run.files import atomic_write, read_json
from ablate.run.folder import RunFolder, run_folders
from ablate.run.lock import Busy, held_in_turn, is_held, renew
from ablate.run.record import DONE, RUNNING, Record, StepsPerSecond, Timing, now
from ablate.run.status import look
from ablate.statistics.speed_ratio import FEWEST_ROUNDS, SpeedRatio, speed_ratio
from ablate.study.runs import planned
from ablate.sweep.other_load import OtherLoad
from ablate.sweep.preflight import RunRequest
from ablate.sweep.scheduler import last_line
from ablate.sweep.session import Session

LOCK = "timing.lock"  # in a sweep's folder, held during a pass
SHARE = 0.1  # of the seconds that the runs took
LEAST = 60.0
SHORTEST, LONGEST = 0.5, 3.0  # seconds of training at a time
START = 0.5  # seconds until it trains
PATIENCE = 120.0  # seconds beyond the end of the pass for one that compiles
BEFORE = 0.5  # seconds for which the load of others is measured before the pass
NOTABLE_LOAD = 0.05  # of the machine's cores, used by others


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
    if any(session.stored.look(item.run).is_stored for item in items if item.run.seed == 0):
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
    ratios = _ratios(timed, sweep.baseline)
    rows = {}
    for item, measured in timed.items():
        skipped = None if measured.speeds else measured.error or f"no time left within {duration(budget)}"
        rows[item.run.row] = {
            "identity": records[item].identity,
            "steps_per_second": measured.speeds,
            "exclusive": measured.median,
            "other_load": measured.other_load,
            "skipped": skipped,
        }
        _write(item, measured)
    for line in _summary(sweep.baseline, rows, ratios, timed):
        session.display.say(f"{sweep.name}: {line}")
    text = json.dumps({"rows": {**known, **rows}}, indent=1)
    atomic_write(folder / "timing.json", text)


def forecast(spent: float, rows: int, start: float = START) -> float:
    """The seconds of a pass over `rows` rows whose first runs took `spent` seconds, each `start` until it trains."""
    budget = _budget(spent)
    return min(budget, rows * FEWEST_ROUNDS * (start + _slice(budget, rows)))


def _budget(spent: float) -> float:
    return max(LEAST, SHARE * spent)


def _slice(budget: float, rows: int) -> float:
    """The seconds for which a row is trained at a time."""
    return min(LONGEST, max(SHORTEST, budget / (FEWEST_ROUNDS * max(rows, 1)) - START))


@dataclass
class _Measured:
    """What the rounds of one row found."""

    began: str
    load_before: float | None
    speeds: list[float] = field(default_factory=list)
    other_load: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.speeds) if self.speeds else None

    @property
    def timing(self) -> Timing | None:
        """What the record keeps; None where there is no round."""
        if not self.speeds:
            return None
        return Timing(
            began=self.began,
            rounds=tuple(self.speeds),
            other_load=tuple(self.other_load),
            load_before=self.load_before,
        )


def _ratios(timed: dict[RunRequest, _Measured], baseline: str) -> dict[str, SpeedRatio]:
    """Each row's speed relative to the baseline's, by label; of the baseline itself there is none."""
    speeds = {item.run.row: measured.speeds for item, measured in timed.items()}
    base = speeds.get(baseline, [])
    return {row: speed_ratio(rounds, base) for row, rounds in speeds.items() if row != baseline}


def _summary(
    baseline: str, rows: dict[str, Any], ratios: dict[str, SpeedRatio], timed: dict[RunRequest, _Measured]
) -> list[str]:
    """The lines that say what was found, and how far it can be trusted."""
    lines = [f"speed of {row} relative to {baseline}: {_shown(found)}" for row, found in ratios.items() if found.rounds]
    if skipped := [f"{row} ({timing['skipped']})" for row, timing in rows.items() if timing["skipped"]]:
        lines.append(f"not timed: {', '.join(skipped)}")
    if loads := [load for measured in timed.values() for load in measured.other_load]:
        typical, cores = statistics.median(loads), os.cpu_count() or 1
        if max(loads) > NOTABLE_LOAD * cores:
            lines.append(
                f"while timing, other processes kept {typical:.1f} of {cores} cores busy (at most {max(loads):.1f})"
            )
    return lines


def _shown(found: SpeedRatio) -> str:
    """`0.93 (0.92 to 0.94, 7 rounds)`."""
    if found.rounds < FEWEST_ROUNDS:
        return f"{found.ratio:.2f} ({found.rounds} of {FEWEST_ROUNDS} rounds, too few for an interval)"
    return f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}, {found.rounds} rounds)"


def _known_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of an earlier pass; what is damaged counts as not timed."""
    rows = read_json(path).get("rows")
    return {row: timing for row, timing in rows.items() if isinstance(timing, dict)} if isinstance(rows, dict) else {}


def _is_known(item: RunRequest, record: Record, known: dict[str, Any], again: bool) -> bool:
    """Whether the row was timed as it is now, or skipped and is not to be tried `again`."""
    before = known.get(item.run.row)
    if before is None or (again and not record.speed_rounds):
        return False
    return (before.get("identity"), before.get("exclusive")) == (record.identity, record.exclusive_speed)


class _Pass:
    """One timing pass over `rows` rows that is to end after `budget` seconds."""

    def __init__(self, session: Session, folder: Path, budget: float, rows: int):
        self.session, self.folder = session, folder
        self.deadline = time.monotonic() + budget
        self.seconds = _slice(budget, rows)

    def rounds(self, items: list[RunRequest]) -> dict[RunRequest, _Measured] | None:
        """What was measured of each row, and what went wrong; None where runs of others began.

        The rows that are timed further are those whose ratio to the baseline is not known well enough yet, and the
        baseline: so the rounds of a row are always the first ones of the pass.
        """
        began, load = now(), self._load_before()
        timed = {item: _Measured(began, load) for item in items}
        left, number = items, 0
        while left:
            for item in left if number % 2 == 0 else reversed(left):
                if self.session.interruption or time.monotonic() > self.deadline:
                    return timed
                renew(self.folder / LOCK)
                self.session.display.note(f"timing {item.run.row}, round {number + 1}")
                self._round(item, timed[item])
            if _others(self.session):
                return None
            number += 1
            left = self._left(timed, number)
        return timed

    def _left(self, timed: dict[RunRequest, _Measured], number: int) -> list[RunRequest]:
        """The rows that another round is for, after `number` of them."""
        baseline = self.session.sweep.baseline
        able = [item for item, measured in timed.items() if not measured.error and len(measured.speeds) == number]
        if number < FEWEST_ROUNDS:
            return able
        if baseline not in [item.run.row for item in able]:
            return []
        ratios = _ratios(timed, baseline)
        left = [item for item in able if item.run.row == baseline or not ratios[item.run.row].is_narrow]
        return left if len(left) > 1 else []

    def _load_before(self) -> float | None:
        """The cores that others keep busy before anything is timed; it is said where they are many."""
        if time.monotonic() > self.deadline:
            return None
        load = OtherLoad()
        time.sleep(BEFORE)
        busy, cores = load.cores(), os.cpu_count() or 1
        if busy is not None and busy > NOTABLE_LOAD * cores:
            self.session.display.say(
                f"{self.session.sweep.name}: other processes keep {busy:.1f} of {cores} cores busy; "
                "speeds are less certain, and may not be those of an idle machine"
            )
        return busy

    def _round(self, item: RunRequest, measured: _Measured) -> None:
        load = OtherLoad()
        speed, measured.error = self._once(item)
        if speed is not None:
            measured.speeds.append(speed)
            busy = load.cores()
            measured.other_load += [] if busy is None else [round(busy, 3)]

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


def _write(item: RunRequest, measured: _Measured) -> None:
    folder = RunFolder(item.folder)
    with folder.lock():
        if record := folder.read():
            speed = record.steps_per_second or StepsPerSecond()
            speed = replace(speed, exclusive=measured.median, timing=measured.timing)
            folder.write(replace(record, steps_per_second=speed))
