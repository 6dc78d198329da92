"""All contestants of a family in turn, each in a process of its own.

    round 1    ablate    litgpt    transformers ...     one training step each, in an order drawn for each round;
    round 2    litgpt    ablate    x-transformers ...   the others wait
    ...

Before a speed counts, the losses of the first steps must be equal: the same weights, batches, optimizer and clip.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from . import ratios, roster, sources
from .roster import Contestant
from .work import STANDARD, Work, quick

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-4  # nats
EQUAL_STEPS = 3  # whose losses are compared: the second and third depend on gradients, clip and optimizer, too
PAUSE = 0.02  # seconds after a step on several threads, which go on looking for work for a while
MIB = 2**20


class Unequal(Exception):
    """A contestant that does other work than it should."""


@dataclass(frozen=True)
class Setting:
    """How a comparison is made."""

    family: str
    mode: str  # "eager" or "compiled"
    rounds: int
    warm_up: int
    threads: int = 1
    quick: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Work:
        """What every contestant trains."""
        work = STANDARD[self.family]
        return quick(work) if self.quick else work


class Runner:
    """The process of a contestant, and what it has answered."""

    def __init__(self, contestant: Contestant, setting: Setting, log: Any):
        self.contestant, self.log = contestant, log
        told = {"family": setting.family, "name": contestant.name, "compiled": setting.mode == "compiled"}
        told |= {"quick": setting.quick, "threads": setting.threads}
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contestants.worker", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**setting.environment, **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(setting.threads)},
        )
        self.made = self._read()
        self.steps: list[dict[str, float]] = []

    def step(self, number: int) -> None:
        """One training step."""
        assert self.process.stdin is not None
        try:
            print(number, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            self._failed()
        self.steps.append(self._read())

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self._failed()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _failed(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        raise RuntimeError(f"{self.contestant.name} has failed: {lines[-1] if lines else 'it said nothing'}")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def present(family: str) -> tuple[list[Contestant], list[Contestant]]:
    """The contestants of a family that can run here, and those whose source is not fetched."""
    known = {*sources.INSTALLED, *sources.COMMITS}
    absent = [one for one in roster.FAMILIES[family] if one.package in known and not sources.has(one.package)]
    return [one for one in roster.FAMILIES[family] if one not in absent], absent


@contextmanager
def running(contestants: Sequence[Contestant], setting: Setting) -> Iterator[list[Runner]]:
    """All of them started and ready, one after the other."""
    with ExitStack() as stack:
        runners = []
        for contestant in contestants:
            log = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
            runner = Runner(contestant, setting, log)
            stack.callback(runner.close)
            runners.append(runner)
        yield runners


def compare(
    setting: Setting, contestants: Sequence[Contestant], say: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """What is known of each contestant after all rounds, ours first; raises `Unequal` before any is timed."""
    order = random.Random(0)
    with running(contestants, setting) as runners:
        for number in range(EQUAL_STEPS):
            for runner in runners:
                runner.step(number)
        differences = {runner.contestant.name: difference(runner, runners[0]) for runner in runners}
        for line in faults(differences, contestants):
            raise Unequal(f"{setting.family}, {setting.mode}: {line}")
        for number in range(EQUAL_STEPS, setting.warm_up + setting.rounds):
            for runner in order.sample(runners, len(runners)):
                runner.step(number)
                if setting.threads > 1:
                    time.sleep(PAUSE)
            if number % 20 == 0:
                say(f"{setting.family}, {setting.mode}: round {number - setting.warm_up} of {setting.rounds}")
        return [_result(runner, runners[0], differences[runner.contestant.name], setting) for runner in runners]


def difference(runner: Runner, ours: Runner) -> list[float]:
    """By how much the losses of the first steps differ from ours, in nats."""
    pairs = zip(runner.steps[:EQUAL_STEPS], ours.steps[:EQUAL_STEPS], strict=True)
    return [abs(one["loss"] - other["loss"]) for one, other in pairs]


def faults(differences: dict[str, list[float]], contestants: Sequence[Contestant]) -> Iterator[str]:
    """A line for each contestant that should do the same work and has other losses."""
    for contestant in contestants:
        if contestant.other_work:
            continue
        steps = differences[contestant.name][: 1 if contestant.converted else EQUAL_STEPS]
        for number, nats in enumerate(steps, 1):
            if not nats <= TOLERANCE:
                yield f"the loss of {contestant.name} in step {number} differs by {nats:.2g} nats from ours"
                break


def _result(runner: Runner, ours: Runner, differences: list[float], setting: Setting) -> dict[str, Any]:
    contestant, timed = runner.contestant, runner.steps[setting.warm_up :]
    column = lambda of, key: [step[key] for step in of.steps[setting.warm_up :]]  # noqa: E731
    seconds = median(step["seconds"] for step in timed)
    return {
        "name": contestant.name,
        "package": contestant.package,
        "parameters": runner.made["parameters"],
        "same_work": not contestant.other_work,
        "note": contestant.other_work or contestant.converted,
        "loss": round(runner.steps[0]["loss"], 6),
        "loss_differences": [float(f"{nats:.2g}") for nats in differences],
        "milliseconds": round(1000 * seconds, 2),
        "cpu_milliseconds": round(1000 * median(step["cpu_seconds"] for step in timed), 2),
        "tokens_per_second": round(setting.work.tokens / seconds, 1),
        "our_speed": ratios.speed(column(ours, "seconds"), column(runner, "seconds")).to_json(),
        "our_speed_cpu_time": ratios.speed(column(ours, "cpu_seconds"), column(runner, "cpu_seconds")).to_json(),
        "peak_mib": round(runner.steps[-1]["peak_bytes"] / MIB),
        "imports_mib": round(runner.made["bare_bytes"] / MIB),
    }
