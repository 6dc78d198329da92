"""What a sweep shows while it works: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from ablate.duration import duration
from ablate.run.record import STARTING
from ablate.terminal import printable, say

if TYPE_CHECKING:
    from rich.console import Group


@dataclass
class Running:
    """A run under way, by its heartbeat."""

    name: str
    began: float
    step: int = 0
    steps: int = 0
    loss: float | None = None
    step_seconds: list[float] = field(default_factory=list)
    last_step_at: float = 0.0
    last_sign_at: float = 0.0
    last_beat: float | None = None
    is_starting: bool = True

    def beat(self, heartbeat: dict, now: float) -> None:
        """Take in a heartbeat read at `now`; remember how long its steps took.

        A run beats between steps and between the batches of an evaluation, never beside them: one that beats lives.
        """
        self.loss, self.steps = heartbeat.get("loss"), heartbeat["steps"]
        self.is_starting = heartbeat.get("phase") == STARTING
        if heartbeat.get("time") != self.last_beat:
            self.last_beat, self.last_sign_at = heartbeat.get("time"), now
        step = heartbeat["step"]
        if step == self.step and self.last_step_at:
            return
        if self.last_step_at and step > self.step:
            self.step_seconds.append((now - self.last_step_at) / (step - self.step))
        self.step, self.last_step_at = step, now

    @property
    def median_step(self) -> float | None:
        """The median seconds of a step so far."""
        return statistics.median(self.step_seconds) if self.step_seconds else None

    def left(self, whole: float | None) -> float | None:
        """The seconds until it is done, from its own pace or from how long such runs take (`whole`)."""
        if self.median_step and self.steps:
            return self.median_step * (self.steps - self.step)
        return whole

    def silent(self, now: float) -> float:
        """The seconds since its last sign of life."""
        return now - (self.last_sign_at or self.began)


@dataclass
class Totals:
    """How far a sweep has come."""

    title: str
    runs: int
    done: int = 0
    diverged: int = 0
    failed: int = 0
    waiting: int = 0
    seconds_left: float | None = None


class Display:
    """Shows events as lines, and the present state as a live table or, every `every` seconds, as a line."""

    def __init__(self, out: TextIO | None = None, every: float = 10.0):
        self.out = out or sys.stdout
        self.every, self.last, self.live = every, time.monotonic(), None
        if self.out.isatty():
            from rich.console import Console
            from rich.live import Live

            self.console = Console(file=self.out)
            self.live = Live(console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        """Print one line that stays."""
        if self.live:
            self.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
        else:
            say(line, file=self.out)

    def show(self, totals: Totals, running: list[Running]) -> None:
        """Bring the live state up to date."""
        if self.live:
            self.live.update(_table(totals, running))
        elif time.monotonic() - self.last >= self.every and running:
            self.last = time.monotonic()
            parts = [f"{run.name} {_step(run)}{_loss(run)}" for run in running]
            self.say(f"{summary(totals)} | " + " | ".join(parts))

    def note(self, line: str) -> None:
        """Show a line that the next one replaces; elsewhere than in a terminal only every `every` seconds."""
        if self.live:
            from rich.text import Text

            self.live.update(Text(printable(line)))
        elif time.monotonic() - self.last >= self.every and line:
            self.last = time.monotonic()
            self.say(line)


def summary(totals: Totals) -> str:
    """One line: how many runs are done, failed, and how long the rest will take."""
    finished = totals.done + totals.diverged + totals.failed
    parts = [f"{totals.title}: {finished}/{totals.runs} runs"]
    counts = {"diverged": totals.diverged, "failed": totals.failed}
    parts += [f"{number} {name}" for name, number in counts.items() if number]
    if totals.waiting:
        parts.append(f"{totals.waiting} under way elsewhere")
    if finished < totals.runs:
        left = totals.seconds_left
        parts.append("time left unknown yet" if left is None else f"about {duration(left)} left")
    return ", ".join(parts)


def _step(run: Running) -> str:
    return f"step {run.step}/{run.steps}" if run.steps else "starting"


def _loss(run: Running) -> str:
    return "" if run.loss is None else f" loss {run.loss:.3f}"


def _table(totals: Totals, running: list[Running]) -> Group:
    from rich import box
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=True, pad_edge=False)
    for column in ("run", ""):
        table.add_column(column)
    for column in ("step", "loss", "left"):
        table.add_column(column, justify="right")
    for run in running:
        table.add_row(
            Text(printable(run.name)),
            ProgressBar(total=max(run.steps, 1), completed=run.step, width=24),
            f"{run.step}/{run.steps}" if run.steps else "starting",
            "" if run.loss is None else f"{run.loss:.3f}",
            duration(run.left(None)),
        )
    return Group(Text(printable(summary(totals)), style="bold"), table)
