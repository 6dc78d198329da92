"""What a run writes while it trains: metrics.csv for the report, progress.json for the driver, lines for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablate.run.files import atomic_write
from ablate.terminal import printable
from ablate.termination import say_or_go_on

FIRST = "first_steps"
COLUMNS = ("step", "time", "loss", "learning_rate", "grad_norm", "kind", "bits_per_byte")
BEAT_SECONDS = 1.0
LINE_SECONDS = 15.0


class MetricsFile:
    """metrics.csv: a line a row, one writer; `kind` is train, validation or first_steps, `time` seconds spent on steps.

    The loss of a train row is the mean over the steps since the row before, its gradient norm that of its step. Each of
    the first steps has a row of its own as well, first_steps, with the loss and the norm of that step. The lines so far
    go into every checkpoint, so that a resumed run continues the file of the moment it resumes from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = [",".join(COLUMNS) + "\n"]

    def begin(self) -> None:
        """Put the lines so far on disk, in place of what is there."""
        atomic_write(self.path, "".join(self.lines))

    def add(self, row: dict[str, Any]) -> None:
        """Append one row; absent columns stay empty."""
        self.add_all([row])

    def add_all(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows, in one write."""
        lines = [",".join(_cell(row.get(column)) for column in COLUMNS) + "\n" for row in rows]
        self.lines += lines
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(lines))


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


class Heartbeat:
    """progress.json: step, steps, time (seconds since 1970), loss, phase; at most about once a second.

    elapsed: seconds since the attempt began to train, so that the time of one that is killed is not lost.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self.path, self.steps = path, steps
        self.next, self.began = 0.0, time.monotonic()

    def beat(self, step: int, loss: float | None, phase: str) -> None:
        """Write how far the run is, whatever the time."""
        self.next = time.perf_counter() + BEAT_SECONDS
        beat = {
            "step": step,
            "steps": self.steps,
            "time": time.time(),
            "elapsed": round(time.monotonic() - self.began, 3),
            "loss": loss,
            "phase": phase,
            "pid": os.getpid(),
        }
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(beat))
        os.replace(temporary, self.path)  # no fsync: after a crash nobody needs it


class Log:
    """Lines for people, on standard output and in log.txt; once where these are the same file."""

    def __init__(self, path: Path | None) -> None:
        self.path = None if path is None or _is_output(path) else path

    def __call__(self, line: str) -> None:
        """Say one line."""
        line = printable(line)
        say_or_go_on(line)
        if self.path is not None:
            with contextlib.suppress(OSError), open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


def _is_output(path: Path) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):
        return False


def progress_line(step: int, steps: int, loss: float | None, steps_per_second: float | None) -> str:
    """`step 120/200  loss 5.432  12.3 steps/s  0:06 left`, as far as it is known."""
    line = f"step {step}/{steps}"
    if loss is not None:
        line += f"  loss {loss:.4f}"
    if not steps_per_second:
        return line
    left = int((steps - step) / steps_per_second)
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{line}  {steps_per_second:.3g} steps/s  {clock} left"
