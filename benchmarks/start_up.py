"""How long a command takes before it does its work: beside an earlier commit, and beside the imports that it needs.

first step    `ablate train norm=rmsnorm` at nano, from the start of the process to the first line of metrics
plan          `ablate plan narang2021` with three seeds a row, to the end
imports       the CPU time of that first step over that of importing torch and Lightning's Trainer, as a script of a
              user does (`from lightning.pytorch import Trainer`); and, as `lean`, over that of importing both without
              the optional packages and the compiler that `ablate` does without
sweep         a run of a sweep, from the request to fork it to the first line of metrics: CPU and wall seconds

    python benchmarks/start_up.py [--against COMMIT] [--turns 5] [--only imports --only sweep] [--check]

Each prints medians over turns, those of two sides taken one after the other. With --check it fails above the ceilings:
0.7 and 0.5 of the earlier commit, 1.5 times the imports, and a second of CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _ceilings import verdict

ROOT = Path(__file__).parents[1]
BEFORE = "2e60268"  # the last commit that composed, built and checked a model three times
CEILINGS = {"first step": 0.7, "plan": 0.5, "imports": 1.5, "sweep": 1.0}
TRAIN = ("train", "norm=rmsnorm", "trainer=cpu", "trainer.log_every=1")
IMPORTS = "import torch; from lightning.pytorch import Trainer"
LEAN = "import torch, ablate.training.lightning"
PATIENCE = 120.0  # seconds


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """The files of `commit` in a folder of their own."""
    place = folder / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(place), commit], check=True)
    try:
        yield place
    finally:
        subprocess.run([*git, "remove", "--force", str(place)], check=True)


def python(source: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start Python with the source tree `source`, in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *arguments]
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def command(source: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `ablate` from the source tree `source`, in `folder`."""
    return python(source, folder, "-m", "ablate", *arguments)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; returns the time that it had of the processor, in user and in system mode."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def wait_for_metrics(folder: Path, is_over: Callable[[], bool]) -> None:
    """Wait until a run below `folder` has written the metrics of its first step."""
    began = time.perf_counter()
    while not any(len(path.read_text().splitlines()) > 1 for path in folder.glob("runs/*/*/seed-0/metrics.csv")):
        if is_over() or time.perf_counter() - began > PATIENCE:
            raise RuntimeError(f"no first step in {folder}")
        time.sleep(0.002)


def first_step(source: Path, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds until `ablate train` has written the metrics of its first step; its corpus is there."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    began = time.perf_counter()
    process = command(source, folder, *TRAIN, *text(folder))
    try:
        wait_for_metrics(folder, lambda: process.poll() is not None)
        seconds = time.perf_counter() - began
    finally:
        process.kill()
    return seconds, cpu_seconds(process)


def plan(source: Path, folder: Path) -> float:
    """Seconds of `ablate plan` over the 52 rows of narang2021, three seeds each."""
    sweeps = folder / "sweeps"
    if not sweeps.exists():
        sweeps.mkdir()
        seeds = "extends: narang2021\nseeds: {baseline: 3, rows: 3}\n"
        (sweeps / "three.yaml").write_text(seeds)
    shutil.copy(source / "sweeps" / "narang2021.yaml", sweeps)
    began = time.perf_counter()
    if command(source, folder, "plan", "three").wait(PATIENCE):
        raise RuntimeError(f"no plan from {source}")
    return time.perf_counter() - began


def text(folder: Path) -> list[str]:
    """The overrides of a made-up text."""
    path = folder / "text.txt"
    if not path.exists():
        path.write_text(
            "\n\n".join(f"{number} is one more than {number - 1}, said the clock." for number in range(5000))
        )
    return ["data=local", f"data.files=[{path}]"]


def against_commit(case: str, commit: str, turns: int, folder: Path) -> dict[str, float]:
    """The seconds of one of two measures over those of an earlier commit, and both."""
    measure = {"first step": lambda *places: first_step(*places)[0], "plan": plan}[case]
    with checkout(commit, folder) as before:
        places = {source: folder / name for source, name in ((before, "a"), (ROOT, "b"))}
        for source, place in places.items():
            place.mkdir()
            measure(source, place)  # prepares the text and fills the system's caches
        found = [{source: measure(source, place) for source, place in places.items()} for _ in range(turns)]
        return {
            "ratio": statistics.median(turn[ROOT] / turn[before] for turn in found),
            "seconds": statistics.median(turn[ROOT] for turn in found),
            "before": statistics.median(turn[before] for turn in found),
        }


def over_imports(turns: int, folder: Path) -> dict[str, float]:
    """The CPU seconds of a first step over those of the imports, as a user writes them and as they can be had."""
    first_step(ROOT, folder)
    found = [
        [first_step(ROOT, folder)[1], *(cpu_seconds(python(ROOT, folder, "-c", code)) for code in (IMPORTS, LEAN))]
        for _ in range(turns)
    ]
    seconds, imports, lean = (statistics.median(turn[side] for turn in found) for side in range(3))
    return {
        "ratio": statistics.median(turn[0] / turn[1] for turn in found),
        "ratio_lean": statistics.median(turn[0] / turn[2] for turn in found),
        "cpu_seconds": seconds,
        "imports": imports,
        "lean": lean,
    }


def in_sweep(turns: int, folder: Path) -> dict[str, float]:
    """The CPU and wall seconds of a run of a sweep, from the request that forks it to the metrics of its first step."""
    first_step(ROOT, folder)  # prepares the text
    os.chdir(folder)
    from ablate.config import compose_resolved
    from ablate.config.root import Trainer
    from ablate.process_tree import cpu_seconds as used
    from ablate.sweep.workers import Program, Starters

    config = compose_resolved([*TRAIN[1:], "trainer.threads=1", *text(folder)])
    job = {"config": config, "overrides": [], "command": "ablate train"}
    starters, found = Starters(Program(), 1), []
    try:
        for _ in range(turns + 1):
            shutil.rmtree(folder / "runs", ignore_errors=True)
            began = time.perf_counter()
            run = starters.start(starters.program.train, job, folder / "log.txt", Trainer(**config["trainer"]))
            wait_for_metrics(folder, lambda run=run: run.poll() is not None)
            found.append((used(run.pid) or 0.0, time.perf_counter() - began))
            run.stop(9)
            while run.poll() is None:
                time.sleep(0.01)
    finally:
        starters.close()
    cpu, wall = (statistics.median(side) for side in zip(*found[1:], strict=True))  # the first waits for the imports
    return {"ratio": cpu, "cpu_seconds": cpu, "wall_seconds": wall}


def main() -> int:
    """Measure each case; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", action="append", choices=CEILINGS, help="a case; all without it")
    parser.add_argument("--check", action="store_true", help="fail above the ceilings")
    options = parser.parse_args()
    high = []
    for case in options.only or CEILINGS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if case == "imports":
                figures = over_imports(options.turns, folder)
            elif case == "sweep":
                figures = in_sweep(options.turns, folder)
            else:
                figures = against_commit(case, options.against, options.turns, folder)
            os.chdir(ROOT)
        print(json.dumps({"case": case, "ceiling": CEILINGS[case]} | {key: round(n, 3) for key, n in figures.items()}))
        high += [case] if figures["ratio"] > CEILINGS[case] else []
    return verdict(high, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
