"""W&B as a mirror: the content of a run's folder, shown on a dashboard while the run goes on.

    training process              detached process, one an attempt        its child, where there is a key
    metrics.csv, record.json ───> reads them, writes an offline run ────> `wandb beta sync --live` sends it

The training process never talks to W&B, imports nothing of it, and does not wait for those that do, so that no network,
no key or a wrong key can slow or end it. The key is taken out of the environment before W&B starts, and handed to the
sync alone.

On the dashboard: group = sweep, job type = row, tags = axes and learning rate; the id is of sweep, row, seed and
identity, so that the same model in two sweeps has two. Each attempt at a run writes and sends all of it, from the first
line, under its one id: what an earlier attempt sent is replaced by the same lines, and what it could not send is there,
too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablate.background import ONE_THREAD, step_back
from ablate.duration import duration
from ablate.errors import UserError
from ablate.run.files import atomic_write, follow_no_link, read_json
from ablate.run.lock import is_held
from ablate.terminal import say

LOG = "wandb.log"  # what the mirror says, beside a run's record; all else of it is in the folder wandb/
TELL_SECONDS = 10.0  # that a command waits at its end, at most, to say what was sent
START_SECONDS = 20.0  # after which a mirror that works holds its lock, on a busy machine, too
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Mirror:
    """Where runs are shown; `sync_seconds` is how long what is left may take when a run has ended (0: never send)."""

    project: str
    entity: str | None
    sync_seconds: float

    def follow(self, folder: Path) -> None:
        """Start the process that mirrors the run in `folder` until it ends; returns at once."""
        self._detach("run", Path(folder))

    def close_sweep(self, sweep: str, runs: Path, reports: Path) -> None:
        """Start the process that shows a sweep's table and plots as a run of their own; returns at once.

        Nothing is done where they were sent before, as they are.
        """
        folder, report = Path(runs) / sweep, Path(reports) / sweep
        state = self._state(report)
        if read_json(state_file(folder)) != {"state": state, "problem": ""}:
            folder.mkdir(parents=True, exist_ok=True)
            self._detach("report", folder, sweep, str(report), state)

    def outcome_line(self, folder: Path, runs: Sequence[Path] = ()) -> str:
        """One line on how sending went: of the run in `folder`, or of a sweep there and the folders of its `runs`.

        It is waited for, `TELL_SECONDS` at most. Empty where nothing is mirrored.
        """
        found = wait([*runs, folder])
        unsent = [problem for problem in found.values() if problem != ""]
        if not unsent:
            return "W&B: sent" if found else ""
        line = f"W&B: {len(unsent)} of {len(found)} runs not sent" if runs else "W&B: not sent"
        command = by_hand(*([f"{folder}/*/seed-*/wandb"] if runs else []), folder / "wandb")
        if reason := next(filter(None, unsent), ""):
            return f"{line} ({reason}); `{command}` sends {'them' if runs else 'it'}"
        return f"{line} yet; that goes on for {duration(self.sync_seconds)} at most, then `{command}` sends the rest"

    def _state(self, report: Path) -> str:
        """What tells two states of a sweep's results, and two places where they are shown, apart."""
        place = json.dumps([self.project, self.entity]).encode()
        return hashlib.sha256(b"".join([place, *(path.read_bytes() for path in report_tables(report))])).hexdigest()

    def _detach(self, what: str, folder: Path, *more: str) -> None:
        job = json.dumps({"mirror": asdict(self), "what": what, "folder": str(folder), "more": more})
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            outcome_file(folder).unlink(missing_ok=True)
            with open(folder / LOG, "ab", opener=follow_no_link) as log:
                os.utime(log.fileno())
                process = subprocess.Popen(
                    [sys.executable, "-m", "ablate.integrations.wandb_mirror", job],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    close_fds=True,
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                )
            step_back(process.pid)  # before it has loaded anything
        except (OSError, UserError) as error:  # a mirror that cannot be hung up breaks nothing
            say(f"this run is not mirrored to W&B: {error}")


def mirror_of(logger: Any) -> Mirror | None:
    """The mirror of a config's group `logger`, if it has one."""
    from ablate.config import fill

    mirror: Mirror | None = fill({"logger": logger}, "logger.mirror")
    return mirror


# --- how sending went, for whoever started it ---


def wait(folders: Iterable[Path], seconds: float = TELL_SECONDS) -> dict[Path, str | None]:
    """`read_problem` of each of the folders that is mirrored, after at most so many seconds."""
    until = time.monotonic() + seconds
    found: dict[Path, str | None] = {folder: None for folder in folders if (folder / LOG).exists()}
    while True:
        found |= {folder: read_problem(folder) for folder, problem in found.items() if problem is None}
        if None not in found.values() or time.monotonic() >= until:
            return found
        time.sleep(POLL_SECONDS)


def read_problem(folder: Path) -> str | None:
    """Why the mirror of a run or a sweep could not send it, empty where it did; None while it works."""
    problem = read_json(outcome_file(folder)).get("problem")
    if isinstance(problem, str):
        return problem
    is_alive = is_held(lock_file(folder)) or time.time() - (folder / LOG).stat().st_mtime < START_SECONDS
    return None if is_alive else "the process that sends was killed"


def write_problem(folder: Path, problem: str) -> None:
    """Leave in the folder of a run or a sweep why it could not be sent; empty where it was."""
    path = outcome_file(folder)
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, json.dumps({"problem": problem}))


def by_hand(*paths: Path | str) -> str:
    """The command that sends the offline runs in these folders; a `*` is left to the shell."""
    quoted = ("*".join(shlex.quote(part) if part else "" for part in str(path).split("*")) for path in paths)
    return " ".join(["wandb", "sync", *quoted])


def outcome_file(folder: Path) -> Path:
    """Where a mirror leaves how sending went."""
    return folder / "wandb" / "outcome.json"


def lock_file(folder: Path) -> Path:
    """Held by the mirror of the run or the sweep in `folder`; one after the other."""
    return folder / "wandb" / "lock"


def state_file(folder: Path) -> Path:
    """Which state of a sweep's results its mirror has shown, with how sending went."""
    return folder / "wandb" / "report.json"


def report_tables(report: Path) -> list[Path]:
    """The tables of a report that are shown."""
    return [path for path in (report / "results.csv", report / "runs.csv") if path.exists()]
