"""What the training loop costs: a run with all its logging against a bare loop of the same model, in one process.

    run    some steps  ..........            ..........            steps/s of a run with data, clipping, metrics.csv,
    bare               ..........            ..........  ...       heartbeat, checks for divergence and signals, over
                                                                   steps/s of data, forward, backward, clip, update

Both take turns every few steps (ten small ones, two large ones; each turn ends with a line of metrics), so that a
machine that is busy at times is busy for both, with the allocator's settings that the sweep driver gives every run.

    python benchmarks/training_loop.py [--check] [--steps N] [--optimizer adamw]

With --check it fails if a ratio is below its floor: 0.90 at a step of about 3 ms, 0.98 at one of about 300 ms.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ablate.config import build_model, compose, fill
from ablate.data import build_corpus
from ablate.data.batches import Batches
from ablate.data.corpus import Corpus
from ablate.run.folder import RunFolder
from ablate.sweep.fork_server import ENVIRONMENT
from ablate.training.callback import RunCallback
from ablate.training.fit import Fit
from ablate.training.interruption import Interruption
from ablate.training.lightning import L

TINY = [
    "shape.d_model=32", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=16", "shape.d_ff=64",
    "shape.vocab_size=768", "shape.length=32", "shape.batch_tokens=64",
]  # fmt: skip
SMALL = [
    "shape.d_model=128", "shape.n_layers=4", "shape.n_heads=4", "shape.head_dim=32", "shape.d_ff=512",
    "shape.vocab_size=2048", "shape.length=128", "shape.batch_tokens=2048",
]  # fmt: skip
CASES = {"3 ms": (TINY, 1500, 10, 0.90), "300 ms": (SMALL, 120, 2, 0.98)}  # shape, steps, steps a turn, floor


class Turns(RunCallback):
    """A run that lets the bare loop have its turn after each line of metrics."""

    def __init__(self, *arguments: Any, bare: Any, turns: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.bare, self.turns, self.began = bare, turns, None
        self.times: list[tuple[float, float]] = []  # seconds of a turn: (run, bare)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *others: Any) -> None:
        """What every run does, then the bare loop."""
        super().on_train_batch_end(trainer, pl_module, *others)
        if self.progress.step % self.agenda.log_every:
            return
        middle = time.perf_counter()
        self.bare(self.progress.step - self.agenda.log_every)
        if self.began is not None:
            self.times.append((middle - self.began, time.perf_counter() - middle))
        trainer.should_stop = len(self.times) == self.turns
        self.progress.timer.skip()
        self.began = time.perf_counter()


def bare_loop(cfg: Any, text: Corpus) -> Any:
    """A function that takes the steps of one turn, from a given one on."""
    model, batches = build_model(cfg), Batches(cfg, text)
    parameters = list(model.parameters())
    optimizer = fill(cfg, "optimizer")(parameters)
    schedule = fill(cfg, "schedule")

    def take_turn(first: int) -> None:
        for step in range(first, first + cfg.trainer.log_every):
            batch = batches.train(step)
            optimizer.zero_grad()
            loss, _ = model(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, cfg.trainer.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
            optimizer.step()

    return take_turn


def ratio(overrides: list[str], turns: int, folder: Path) -> dict[str, float]:
    """The run's speed over the bare loop's (the median over turns), and the milliseconds of a step of both."""
    cfg = compose([*overrides, "trainer=cpu", "trainer.threads=1", "trainer.steps=1000000", "trainer.clip_norm=1.0"])
    text = build_corpus.prepare(cfg)
    run_folder = RunFolder(folder / "run")
    run_folder.path.mkdir()
    turns_callback = functools.partial(Turns, bare=bare_loop(cfg, text), turns=turns)
    with Interruption() as interruption:
        fit = Fit(cfg, text, run_folder, "benchmark", interruption, lambda line: None, callback=turns_callback)
        fit.train()
    times = fit.callback.times[len(fit.callback.times) // 10 :]
    run, bare = (statistics.median(seconds) / cfg.trainer.log_every for seconds in zip(*times, strict=True))
    return {"ratio": statistics.median(bare / run for run, bare in times), "run_ms": 1000 * run, "bare_ms": 1000 * bare}


def documents(folder: Path) -> Path:
    """A file of made-up text."""
    choose = random.Random(0)
    words = ["".join(choose.choices("abcdefghijklmnop", k=choose.randint(2, 8))) for _ in range(2000)]
    path = folder / "text.txt"
    path.write_text("\n\n".join(" ".join(choose.choices(words, k=choose.randint(20, 300))) for _ in range(3000)))
    return path


def main() -> int:
    """Measure each case; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail below the floors")
    parser.add_argument("--steps", type=int, help="steps of each loop, instead of the case's own")
    parser.add_argument("--optimizer", default="adamw")
    arguments = parser.parse_args()
    low = []
    for name, (shape, steps, turn, floor) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            text = documents(Path(folder))
            options = ["data=local", f"data.files=[{text}]", f"paths.data={folder}", f"optimizer={arguments.optimizer}"]
            overrides = [*shape, *options, f"trainer.log_every={turn}"]
            found = ratio(overrides, (arguments.steps or steps) // turn, Path(folder))
        print(json.dumps({"case": name, "floor": floor, **{key: round(value, 4) for key, value in found.items()}}))
        low += [name] if found["ratio"] < floor else []
    if arguments.check and low:
        print(f"below the floor: {', '.join(low)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if any(name not in os.environ for name in ENVIRONMENT):  # the C library reads them when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**ENVIRONMENT, **os.environ})
    sys.exit(main())
