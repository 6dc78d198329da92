"""How long a command takes before it does its work, beside an earlier commit, the two in turn.

first step    `ablate train norm=rmsnorm` at nano, from the start of the process to the first line of metrics
plan          `ablate plan narang2021` with three seeds a row, to the end

    python benchmarks/start_up.py [--against COMMIT] [--turns 5] [--check]

Each prints the median of the ratios, turn by turn. With --check it fails above 0.7 and 0.5.
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
CEILINGS = {"first step": 0.7, "plan": 0.5}
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


def command(source: Path, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `ablate` from the source tree `source`, in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "ablate", *arguments]
    return subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def first_step(source: Path, folder: Path) -> float:
    """Seconds until `ablate train` has written the metrics of its first step; its corpus is there already."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    began = time.perf_counter()
    process = command(source, folder, "train", "norm=rmsnorm", "trainer=cpu", "trainer.log_every=1", *text(folder))
    try:
        while not any(len(path.read_text().splitlines()) > 1 for path in folder.glob("runs/*/*/seed-0/metrics.csv")):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise RuntimeError(f"no first step from {source}")
            time.sleep(0.002)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


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


def main() -> int:
    """Measure both; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail above the ceilings")
    options = parser.parse_args()
    measures: dict[str, Callable[[Path, Path], float]] = {"first step": first_step, "plan": plan}
    high = []
    with tempfile.TemporaryDirectory() as folder, checkout(options.against, Path(folder)) as before:
        places = {source: Path(folder) / name for source, name in ((before, "a"), (ROOT, "b"))}
        for place in places.values():
            place.mkdir()
        for name, measure in measures.items():
            for source, place in places.items():  # the first time prepares the text and fills the system's caches
                measure(source, place)
            turns = [{source: measure(source, place) for source, place in places.items()} for _ in range(options.turns)]
            ratio = statistics.median(turn[ROOT] / turn[before] for turn in turns)
            seconds = {source: statistics.median(turn[source] for turn in turns) for source in places}
            figures = {"ratio": ratio, "seconds": seconds[ROOT], "before": seconds[before]}
            print(
                json.dumps({"case": name, "ceiling": CEILINGS[name]} | {key: round(n, 3) for key, n in figures.items()})
            )
            high += [name] if ratio > CEILINGS[name] else []
    return verdict(high, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
