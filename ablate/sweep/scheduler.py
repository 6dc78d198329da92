"""Keeps `jobs` runs under way until every run of a sweep has a result, whatever becomes of a single one."""

from __future__ import annotations

import signal
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.duration import duration
from ablate.errors import UserError
from ablate.run.folder import RunFolder
from ablate.run.lock import Busy
from ablate.run.record import DIVERGED, DONE, FAILED, PREEMPTED, RUNNING, SCHEMA, Record
from ablate.run.status import RunStatus, heartbeat, seconds_spent
from ablate.study.definition import Sweep
from ablate.sweep.preflight import RunRequest
from ablate.sweep.progress import Running, Totals
from ablate.sweep.session import Session
from ablate.terminal import without_sequences
from ablate.termination import likely_cause, signal_name

GRACE = 120.0  # seconds between SIGTERM and SIGKILL
TICK = 0.05
BEFORE_THE_FIRST_STEP = 6  # times the patience: it may compile


@dataclass
class Active:
    """A run that this driver has started."""

    item: RunRequest
    handle: Any
    progress: Running
    record_before: int
    killed: str = ""


@dataclass
class Tally:
    """What became of the runs of a sweep."""

    done: list[RunRequest] = field(default_factory=list)
    diverged: list[RunRequest] = field(default_factory=list)
    failed: list[tuple[RunRequest, str]] = field(default_factory=list)
    preempted: list[RunRequest] = field(default_factory=list)


class Driver:
    """Runs `items` in their order."""

    def __init__(self, session: Session, items: list[RunRequest]):
        self.session, self.options, self.display = session, session.options, session.display
        self.queue: list[RunRequest] = []
        self.elsewhere: list[RunRequest] = []
        self.active: list[Active] = []
        self.tally = Tally()
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of each finished run, by row
        self.failed_before: dict[RunRequest, int] = {}
        self.seen_elsewhere: dict[RunRequest, Running] = {}  # when runs of others were first seen, and their heartbeats
        self.last_watch = self.last_look = 0.0
        self._take_stock(items)

    def drive(self) -> Tally:
        """Work until nothing is left to do, or until Ctrl-C or SIGTERM, which stop the runs first.

        So does a disk that refuses what the driver has to write, of which it raises the `OSError`.
        """
        try:
            while not self.session.interruption:
                self._collect()
                self._fill()
                if not (self.active or self.queue or self.elsewhere):
                    break
                self._watch()
                time.sleep(TICK)
        finally:
            self.display.note("")
            self._stop_all()
        return self.tally

    def _take_stock(self, items: list[RunRequest]) -> None:
        """Count what needs no work, queue the rest."""
        settled = []
        for item in items:
            found = self._look(item)
            self._remember_seconds(item, found.record)
            if item.is_settled(found):
                (self.tally.done if found.state == DONE else self.tally.diverged).append(item)
                settled.append(found)
                continue
            self.queue.append(item)
            if found.state == FAILED and self.options.retry == "failed":
                self.failed_before[item] = _modified(item)
        if settled:
            stored = self.session.stored.count(settled)
            name, finished = self.session.sweep.name, len(settled)
            self.display.say(f"{name}: {finished} of {len(items)} runs already finished{stored}")

    def _look(self, item: RunRequest) -> RunStatus:
        return self.session.stored.look(item.run)

    def _fill(self) -> None:
        """Start what may start; count what needs no start; set aside what another driver has in hand."""
        now = time.monotonic()
        if self.elsewhere and now - self.last_look > 1.0:
            self.last_look = now
            self.queue, self.elsewhere = self.elsewhere + self.queue, []
        with self.session.starters.batch():
            while self.queue and len(self.active) < self.session.starters.jobs and not self.session.interruption:
                self._next(self.queue.pop(0))

    def _next(self, item: RunRequest) -> None:
        found = self._look(item)
        if found.state == RUNNING:
            if silent := self._silence_elsewhere(item):
                self._count(item, found, f"another process has it, without a sign of life for {duration(silent)}")
            else:
                self.elsewhere.append(item)
        elif item.is_settled(found) or (found.state == FAILED and not found.is_damaged and not self._may_retry(item)):
            self._count(item, found)
        else:
            self._start(item)

    def _silence_elsewhere(self, item: RunRequest) -> float:
        """The seconds since the last sign of life of a run that is not ours, if it has to be given up for them."""
        now = time.monotonic()
        seen = self.seen_elsewhere.setdefault(item, Running(item.name, now))
        if beat := heartbeat(item.folder):
            seen.beat(beat, now)
        silent = seen.silent(now)
        return silent if silent > BEFORE_THE_FIRST_STEP * self.options.patience else 0.0

    def _may_retry(self, item: RunRequest) -> bool:
        """Whether its failure is from before this driver: one that another driver has just had is not tried again."""
        return self.failed_before.pop(item, None) == _modified(item)

    def _start(self, item: RunRequest) -> None:
        job = {"config": item.config, "overrides": list(item.run.overrides), "command": item.command}
        log = RunFolder(item.folder).log
        handle = self.session.starters.start(self.session.starters.program.train, job, log, item.trainer)
        self.active.append(Active(item, handle, Running(item.name, time.monotonic()), _modified(item)))

    def _collect(self) -> None:
        for active in list(self.active):
            code = active.handle.poll()
            if code is None:
                continue
            self.active.remove(active)
            found = self._look(active.item)
            if found.state == RUNNING or code == Busy.exit_code:
                self.elsewhere.append(active.item)
            elif found.finished or self._has_said_why(found, active):
                self._remember_seconds(active.item, found.record)
                self._count(active.item, found)
            elif found.state == PREEMPTED and not active.killed and not RunFolder(active.item.folder).death():
                self.tally.preempted.append(active.item)
                self._say("stopped", active.item, "the same command resumes it")
            else:
                self._fail(active, code)

    def _has_said_why(self, found: RunStatus, active: Active) -> bool:
        """Whether the run itself has said why it failed, and none of its processes knows better."""
        is_new = _modified(active.item) != active.record_before
        return found.state == FAILED and is_new and not RunFolder(active.item.folder).failure()

    def _fail(self, active: Active, code: int) -> None:
        folder = RunFolder(active.item.folder)
        reason = active.killed or folder.failure() or active.handle.reason or _reason(code, folder.log)
        write_failure(self.session.sweep, active.item, reason)
        self._count(active.item, self._look(active.item), reason)

    def _count(self, item: RunRequest, found: RunStatus, reason: str = "") -> None:
        if found.state == DONE:
            self.tally.done.append(item)
            final, seconds = (found.record.final_loss, found.record.seconds) if found.record else (None, None)
            loss = "" if final is None else f"final loss {final:.3f}"
            self._say("done", item, loss, duration(seconds) if seconds else "")
        elif found.state == DIVERGED:
            self.tally.diverged.append(item)
            self._say("diverged", item, found.reason)
        else:
            reason = reason or found.reason or "no reason known"
            self.tally.failed.append((item, reason))
            self._say("FAILED", item, reason, f"see {RunFolder(item.folder).log}")

    def _say(self, what: str, item: RunRequest, *details: str) -> None:
        finished = len(self.tally.done) + len(self.tally.diverged) + len(self.tally.failed)
        total = finished + len(self.tally.preempted) + len(self.active) + len(self.queue) + len(self.elsewhere)
        message = ", ".join(detail for detail in details if detail)
        self.display.say(f"[{finished}/{total}] {what:8} {item.name}{': ' if message else ''}{message}")

    def _watch(self) -> None:
        """Read the heartbeats, end what hangs or takes too long, and show the state of all."""
        now = time.monotonic()
        if now - self.last_watch < 0.5:
            return
        self.last_watch = now
        self._stop([active for active in self.active if self._is_overdue(active, now)], signal.SIGKILL)
        self.display.show(self._totals(now), [active.progress for active in self.active])

    def _is_overdue(self, active: Active, now: float) -> bool:
        """Take in a run's heartbeat; whether it is to be killed now, which `killed` then says why."""
        progress = active.progress
        if active.handle.waits:
            progress.began = now
        if beat := heartbeat(active.item.folder):
            progress.beat(beat, now)
        if progress.is_starting:
            limit = BEFORE_THE_FIRST_STEP * self.options.patience
        else:
            limit = max(self.options.patience, 10 * (progress.median_step or 0.0))
        if active.killed:
            return False
        if self.options.timeout and now - progress.began > self.options.timeout:
            active.killed = f"timed out after {self.options.timeout:g} s (at step {progress.step})"
        elif progress.silent(now) > limit:
            active.killed = f"hung: no step for {duration(progress.silent(now))} (at step {progress.step})"
            folder = RunFolder(active.item.folder)
            if obstacle := folder.death() or active.handle.obstacle():
                active.killed += f"; {obstacle}"
        return bool(active.killed)

    def _totals(self, now: float) -> Totals:
        tally = self.tally
        totals = Totals(
            self.session.sweep.name,
            sum(map(len, (self.queue, self.elsewhere, self.active, *vars(tally).values()))),
            len(tally.done),
            len(tally.diverged),
            len(tally.failed),
            len(self.elsewhere),
        )
        waiting = [self._expected(item) for item in (*self.queue, *self.elsewhere)]
        under_way = [active.progress.left(self._expected(active.item)) for active in self.active]
        known = [seconds for seconds in (*waiting, *under_way) if seconds is not None]
        if len(known) == len(waiting) + len(under_way):
            longest = known[len(waiting) :]
            totals.seconds_left = max([sum(known) / (self.options.jobs or 1), *longest])
        return totals

    def _expected(self, item: RunRequest) -> float | None:
        """The seconds that a run of this row takes, from runs of it, or of any row."""
        known = self.seconds[item.run.row] or [mean for mean in map(_mean, self.seconds.values()) if mean]
        if not known:
            paces = [a.progress.median_step * a.progress.steps for a in self.active if a.progress.median_step]
            return _mean(paces)
        return _mean(known)

    def _remember_seconds(self, item: RunRequest, record: Record | None) -> None:
        if record and record.status == DONE and record.seconds is not None:
            self.seconds[item.run.row].append(record.seconds)

    def _stop_all(self) -> None:
        """SIGTERM, so that they save; SIGKILL after a while, or at once after a second Ctrl-C; and no longer."""
        if not self.active:
            return
        self.display.say(
            f"stopping {len(self.active)} runs: waiting for their checkpoints; Ctrl-C again kills them now"
        )
        self._stop(self.active, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        killed: float | None = None
        while left := [active for active in self.active if active.handle.poll() is None]:
            now = time.monotonic()
            if killed is None and (now > deadline or self.session.interruption.impatient):
                killed = now
                self._stop(left, signal.SIGKILL)
            if killed is not None and all(now - killed >= active.handle.kill_seconds for active in left):
                names = ", ".join(active.item.name for active in left)
                self.display.say(f"not waited for any longer: {names}")
                break
            time.sleep(TICK)

    def _stop(self, several: list[Active], number: int) -> None:
        if several and (trouble := self.session.starters.stop([active.handle for active in several], number)):
            self.display.say(trouble)


def _mean(values: list[float]) -> float | None:
    return float(statistics.mean(values)) if values else None


def _modified(item: RunRequest) -> int:
    """When the record was last written; 0 where there is none."""
    try:
        return RunFolder(item.folder).record.stat().st_mtime_ns
    except OSError:
        return 0


def _reason(code: int, log: Path) -> str:
    """What an exit code and the end of the log say about a run that did not say itself why it failed."""
    if code < 0:
        return f"killed by {signal_name(-code)}{likely_cause(-code)}"
    last = last_line(log)
    return f"exited with code {code}{f': {last}' if last else ' and no message'}"


def last_line(log: Path) -> str:
    """The last line of a log that says something, at most 300 characters."""
    try:
        with open(log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 65536))
            lines = without_sequences(file.read().decode("utf-8", "replace")).splitlines()
    except OSError:
        return ""
    return next((" ".join(line.split())[:300] for line in reversed(lines) if line.strip(" =-")), "")


def write_failure(sweep: Sweep, item: RunRequest, reason: str) -> None:
    """Say in the record of a run that died without a word why it has no result.

    A record that cannot be used is left as it is: it may be the result of a newer version. Raises `OSError` where the
    disk refuses it; the run then counts as interrupted when the sweep is asked for again.
    """
    folder, run = RunFolder(item.folder), item.run
    try:
        with folder.lock():
            record = folder.read() or Record(
                schema=SCHEMA,
                sweep=sweep.name,
                row=run.row,
                overrides=run.overrides,
                command=item.command,
                seed=run.seed,
                status=FAILED,
            )
            seconds = seconds_spent(item.folder, record)
            folder.write(replace(record, status=FAILED, reason=reason, seconds=seconds))
    except (Busy, UserError):
        pass  # someone has begun it anew: the driver names it all the same
