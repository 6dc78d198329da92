"""A run as a user starts it, beside others: `ablate train`, transformers' Trainer with a T5 script, a bare loop.

    turn   ablate train | Trainer | bare loop     each a process, from its start to its end: imports, tokenization
                                                  of the text, training; tokens/s of ours over theirs, turn by turn

Same text, tokenizer, shape (9,475,840 parameters), batches of 8 x (256 + 58) tokens and kind of optimizer; each with as
many threads as it takes by itself. What is not the same is said by each: `ablate train` also takes a held-out loss,
writes a record, checkpoints its weights and can be resumed; the loop over T5 flushes denormal numbers.

    python benchmarks/as_shipped.py [--turns 3] [--steps 25 --steps 300] [--check]

With --check it fails below the floors: over the Trainer 1.3 in 25 steps and 1.15 in 300, over the bare loop 1.0. The
tokenizer is trained beforehand, because a user of transformers has one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT, HERE = Path(__file__).parents[1], Path(__file__).parent
FLOORS = {25: {"trainer": 1.3, "bare": 1.0}, 300: {"trainer": 1.15, "bare": 1.0}}
TOKENS = 8 * (256 + 58)  # a step
OVERRIDES = [
    "shape.d_model=256", "shape.n_layers=4", "shape.n_heads=4", "shape.head_dim=64", "shape.d_ff=688",
    "shape.vocab_size=8192", "shape.length=256", "shape.batch_tokens=2048", "activation=geglu",
    "feedforward.gated_ratio=1", "norm=rmsnorm", "bias=none", "trainer=cpu", "trainer.clip_norm=1.0",
    "evaluation.heldout.tokens=2048", "early_fraction=1", "data=local", "tokenizer=file",
]  # fmt: skip


def write_text(path: Path) -> None:
    """Some megabytes of made-up documents."""
    choose = random.Random(0)
    words = ["".join(choose.choices("abcdefghijklmnop", k=choose.randint(2, 8))) for _ in range(20_000)]
    documents = (" ".join(choose.choices(words, k=choose.randint(20, 300))) for _ in range(4000))
    path.write_text("\n\n".join(documents))


def write_tokenizer(path: Path, text: Path) -> None:
    """A byte-level BPE of 8,000 ids."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train([str(text)], vocab_size=8000, special_tokens=["<pad>", "</s>"], show_progress=False)
    tokenizer.save(str(path))


def seconds(side: str, steps: int, folder: Path) -> dict[str, float]:
    """Wall and CPU seconds of one process from its start to its end."""
    text, tokenizer, place = folder / "text.txt", folder / "tokenizer.json", folder / side
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    if side == "ablate":
        given = [*OVERRIDES, f"data.files=[{text}]", f"tokenizer.file={tokenizer}", f"trainer.steps={steps}"]
        line = ["-m", "ablate", "train", *given]
    else:
        line = [str(HERE / "_hf_t5.py"), side, str(text), str(tokenizer), str(steps), str(place)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(place / "hf"), "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    with open(place / "log.txt", "wb") as log:
        process = subprocess.Popen([sys.executable, *line], cwd=place, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{side} failed:\n{(place / 'log.txt').read_text()[-2000:]}")
    return {"wall": time.perf_counter() - began, "cpu": usage.ru_utime + usage.ru_stime}


def measure(steps: int, turns: int, folder: Path) -> dict[str, float]:
    """Tokens a second of each side, and ours over theirs: of wall time, and of CPU time."""
    sides = ("ablate", "trainer", "bare")
    found = [{side: seconds(side, steps, folder) for side in sides} for _ in range(turns)]
    rates = {side: steps * TOKENS / statistics.median(turn[side]["wall"] for turn in found) for side in sides}
    ratios = {
        f"over_{side}{'_by_cpu' * (kind == 'cpu')}": statistics.median(
            turn[side][kind] / turn["ablate"][kind] for turn in found
        )
        for side in sides[1:]
        for kind in ("wall", "cpu")
    }
    return ratios | {f"{side}_tokens_per_second": rate for side, rate in rates.items()}


def main() -> int:
    """Measure each number of steps; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, action="append", help="steps of a run: 25 and 300 without it")
    parser.add_argument("--check", action="store_true", help="fail below the floors")
    options = parser.parse_args()
    low = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / "text.txt")
        write_tokenizer(folder / "tokenizer.json", folder / "text.txt")
        for steps in options.steps or FLOORS:
            found = measure(steps, options.turns, folder)
            floors = FLOORS.get(steps, {})
            print(json.dumps({"steps": steps, "floors": floors} | {key: round(n, 3) for key, n in found.items()}))
            low += [f"{side} at {steps}" for side, floor in floors.items() if found[f"over_{side}"] < floor]
    if options.check and low:
        print(f"below the floor: {', '.join(low)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
