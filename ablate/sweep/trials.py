"""A moment of the run of each row, from which a plan forecasts the whole: `ablate plan --measure`."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.config import evaluations, points
from ablate.run.files import read_json
from ablate.sweep.preflight import RunRequest
from ablate.sweep.scheduler import last_line
from ablate.sweep.session import Session

MOST_ROWS = 24  # that are tried; of more rows these are taken at equal distances
SECONDS = 1.0  # of counted steps
SAVES_EVERY = 60.0  # seconds between two checkpoints
PATIENCE = 300.0  # seconds of one trial: it may compile


@dataclass(frozen=True)
class Trial:
    """What a moment of a run took, in seconds."""

    start: float  # until it trains, with what the first step takes longer than others
    step: float
    evaluation: float  # one held-out loss
    save: float = 0.0  # one checkpoint
    scores: Mapping[str, float] = field(default_factory=dict)  # the evaluations besides, by name
    cut: Sequence[str] = ()  # those that were not waited for

    def whole(self, config: dict[str, Any]) -> float:
        """How long a run of `config` takes."""
        steps, every = config["trainer"]["steps"], config["trainer"]["evaluate_every"]
        early = points.step_of(config["early_fraction"], steps)
        losses = len({early, steps, *range(every or steps, steps + 1, every or steps)})
        before_end = evaluations.points_before_end(config)
        scores = sum(seconds * (1 + len(before_end.get(name, ()))) for name, seconds in self.scores.items())
        training = steps * self.step
        save_every = config["trainer"].get("checkpoint_every")
        saves = steps // save_every if save_every else int(training / SAVES_EVERY)
        saves += len({step for at in before_end.values() for step in at}) + 1  # the weights in the end
        return float(self.start + training + losses * self.evaluation + scores + saves * self.save)


@dataclass(frozen=True)
class Trials:
    """What was measured, by row, and of which rows nothing could be; and what a sweep takes before its first run."""

    rows: dict[str, Trial]
    failed: dict[str, str]  # row: why
    begin: float = 0.0

    @property
    def cut(self) -> list[str]:
        """The evaluations that were not waited for, and count with the time that they had."""
        return sorted({name for trial in self.rows.values() for name in trial.cut})

    def seconds(self, configs: dict[str, dict[str, Any]]) -> dict[str, float]:
        """The seconds of a run of each row; of one that was not tried as of the others on average."""
        known = {row: trial.whole(configs[row]) for row, trial in self.rows.items() if row in configs}
        mean = sum(known.values()) / len(known) if known else 0.0
        return {row: known.get(row, mean) for row in configs} if known else {}


def measure(session: Session, items: Sequence[RunRequest], folder: Path) -> Trials:
    """Try rows of `items`, as many at a time as runs will be; their texts are there. Scratch files go to `folder`."""
    queue = _spread([*{item.run.row: item for item in reversed(items)}.values()][::-1])
    trials = Trials({}, {})
    total, active = len(queue), dict[RunRequest, tuple[Any, Path, float]]()
    while (queue or active) and not session.interruption:
        while queue and len(active) < session.starters.jobs:
            item = queue.pop(0)
            active[item] = _start(session, item, folder / str(len(queue)))
        for item, (handle, scratch, began) in list(active.items()):
            if handle.poll() is None:
                if time.monotonic() - began > PATIENCE:
                    handle.stop(signal.SIGKILL)
                continue
            del active[item]
            found = read_json(scratch / "result.json")
            if found:
                trials.rows[item.run.row] = Trial(**found)
            else:
                trials.failed[item.run.row] = last_line(scratch / "log.txt") or f"exit code {handle.poll()}"
        session.display.note(f"measuring: {total - len(queue) - len(active)} of {total} rows")
        time.sleep(0.02)
    for handle, _, _ in active.values():
        handle.stop(signal.SIGKILL)
    return trials


def _start(session: Session, item: RunRequest, scratch: Path) -> tuple[Any, Path, float]:
    scratch.mkdir(parents=True)
    now = time.monotonic()
    job = {
        "config": item.config,
        "scratch": str(scratch / "run"),
        "seconds": SECONDS,
        "asked": now,
        "result": str(scratch / "result.json"),
    }
    handle = session.starters.start(session.starters.program.try_out, job, scratch / "log.txt", item.trainer)
    return handle, scratch, now


def _spread(items: Sequence[RunRequest]) -> list[RunRequest]:
    """At most `MOST_ROWS` of the items, the first among them."""
    step = max(1.0, len(items) / MOST_ROWS)
    return [items[int(number * step)] for number in range(min(len(items), MOST_ROWS))]
