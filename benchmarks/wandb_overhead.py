"""How much longer training takes with W&B on, where its service is dead, slow or rejects what it is sent.

logger=wandb   ==========            ==========        seconds from the first line of metrics to the last,
logger=files             ==========            ======  in pairs of runs; every second pair begins with the other one

    python benchmarks/wandb_overhead.py [--check] [--seconds 60] [--pairs 5] [--services dead slow rejecting]

Prints the median ratio of the pairs, and the CPU time that W&B took while a run trained; with runs below 40 s there is
none, as W&B is loaded after their end. With --check it fails above 1.02. Nothing else should use the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _ceilings import verdict

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ablate.integrations import wandb  # noqa: E402
from ablate.process_tree import cpu_seconds  # noqa: E402
from tests.integrations.wandb_service import REJECTING, SLOW, serving  # noqa: E402

CEILING = 1.02
DEAD = "dead"
NOBODY = "http://127.0.0.1:9"  # where nobody listens
FIRST_STEPS = 50  # of the run that says how long a step takes
LOG_EVERY = 5
MODULES = (b"ablate.integrations.wandb_mirror", b"wandb\0beta\0sync", b"wandb-core")
PATIENCE = 120.0


class Runs:
    """Runs of the model at nano on a made-up text, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count, self.cpu_seconds = folder, 0, 0.0
        text = folder / "text.txt"
        text.write_text(
            "\n\n".join(f"{number} is one more than {number - 1}, said the clock." for number in range(5000))
        )
        self.overrides = ["data=local", f"data.files=[{text}]", "trainer=cpu", "logger.mirror.sync_seconds=2"]
        (folder / "home").mkdir()

    def train(self, logger: str, steps: int, url: str = NOBODY) -> float:
        """Seconds of training between the first line of metrics and the last; W&B's processes have ended then."""
        self.count += 1
        name = f"run-{self.count}"
        words = [word for word in self.overrides if logger == "wandb" or not word.startswith("logger.")]
        words += [f"logger={logger}", f"row={name}", f"trainer.steps={steps}", f"trainer.log_every={LOG_EVERY}"]
        line = [sys.executable, "-m", "ablate", "train", *words, f"trainer.evaluate_every={steps}"]
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "HOME": str(self.folder / "home"),
            "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40,
        }  # fmt: skip
        with open(self.folder / f"{name}.log", "w") as log:
            training = subprocess.Popen(line, cwd=self.folder, env=environment, stdout=log, stderr=log)
            used: dict[int, float] = {}
            while training.poll() is None:
                time.sleep(0.5)
                if not any(self.folder.glob(f"runs/*/{name}/seed-0/wandb/outcome.json")):
                    used |= of_wandb()
        if training.returncode:
            raise RuntimeError((self.folder / f"{name}.log").read_text())
        (folder,) = self.folder.glob(f"runs/*/{name}/seed-0")
        wandb.wait([folder], PATIENCE)
        self.cpu_seconds = sum(used.values())
        with open(folder / "metrics.csv", encoding="utf-8") as file:
            times = [float(row["time"]) for row in csv.DictReader(file) if row["kind"] == "train"]
        return times[-1] - times[0]


def of_wandb() -> dict[int, float]:
    """The CPU time that each process of the mirror and of W&B has used so far."""
    found: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(word in (path / "cmdline").read_bytes() for word in MODULES):
                found[int(path.name)] = cpu_seconds(int(path.name)) or 0.0
    return found


def measure(runs: Runs, service: str, steps: int, pairs: int) -> dict[str, float]:
    """The median ratio over so many pairs of runs, with the lowest and the highest, and W&B's CPU time of a run."""
    ratios, used = [], []
    with serving({"slow": SLOW, "rejecting": REJECTING}.get(service, SLOW)) as stub:
        for pair in range(pairs):
            seconds = {}
            for logger in ("wandb", "files") if pair % 2 else ("files", "wandb"):
                seconds[logger] = runs.train(logger, steps, NOBODY if service == DEAD else stub.url)
                used += [runs.cpu_seconds] if logger == "wandb" else []
            ratios.append(seconds["wandb"] / seconds["files"])
    cpu = statistics.median(used)
    return {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "wandb_cpu_seconds": cpu}


def main() -> int:
    """Measure with each service; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help=f"fail above {CEILING}")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training of each run")
    parser.add_argument("--pairs", type=int, default=5)
    services = (DEAD, "slow", "rejecting")
    parser.add_argument("--services", nargs="+", choices=services, default=services)
    options = parser.parse_args()
    high = []
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        step_seconds = runs.train("files", FIRST_STEPS) / (FIRST_STEPS - LOG_EVERY)
        steps = max(FIRST_STEPS, round(options.seconds / step_seconds / LOG_EVERY) * LOG_EVERY)
        for service in options.services:
            found = measure(runs, service, steps, options.pairs)
            figures = {key: round(number, 4) for key, number in found.items()}
            print(json.dumps({"case": service, "ceiling": CEILING, "steps": steps, **figures}), flush=True)
            high += [service] if found["ratio"] > CEILING else []
    return verdict(high, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
