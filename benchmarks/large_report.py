"""What the report of a large sweep takes, beside an earlier commit: `ablate report` over made-up runs of 1,000 rows.

    python benchmarks/large_report.py [--against COMMIT] [--rows 1000] [--seeds 5] [--check]

Prints the ratios of processor time and of peak memory. With --check it fails above 0.3 and 0.5. Nothing is trained:
run folders are written as training leaves them, and one tree of them is read by both.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from _ceilings import verdict
from start_up import checkout

from ablate.config import compose_resolved
from ablate.config.identity import SCHEMA, identity
from ablate.run.folder import run_path
from ablate.study import definition, runs

ROOT = Path(__file__).parents[1]
BEFORE = "2e60268"  # the last commit that drew every row, and parsed each run's config by itself
CEILINGS = {"processor time": 0.3, "peak memory": 0.5}
SWEEP, BASELINE, SECTIONS, STEPS, LOG_EVERY = "large", "Baseline", 20, 500, 10
CORPUS = {"name": "made-up", "sha256": "d" * 64, "tokens": 6_100_000, "validation_tokens": 310_000, "vocab_size": 2048}


def make(folder: Path, rows: int, seeds: int) -> None:
    """Write a sweep file and the folders of its runs: one row in ten differs from the baseline, one by far."""
    noise = np.random.default_rng(11)
    sections: dict[str, dict[str, list[str]]] = {}
    for number in range(1, rows):
        sections.setdefault(f"axis {number % SECTIONS}", {})[f"Variant {number}"] = [
            f"schedule.peak={number / 1e5:.5f}"
        ]
    content = {"question": "Which?", "base": ["shape=nano", "data=builtin"], "baseline": BASELINE, "sections": sections}
    content["seeds"] = {"baseline": seeds, "rows": seeds}
    (folder / "sweeps").mkdir(parents=True)
    (folder / "sweeps" / f"{SWEEP}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    sweep = definition.load(SWEEP, folder / "sweeps")
    of_seed = noise.normal(0, 0.012, seeds)
    for number, row in enumerate(sweep.rows):
        difference = noise.normal(0, 0.05) * (number % 10 == 1) + 1.4 * (number == 17)
        for seed in range(seeds):
            overrides = runs.overrides(sweep, row, seed)
            config = compose_resolved(overrides)
            path = run_path(folder / "runs", SWEEP, row, seed)
            path.mkdir(parents=True)
            if not seed:
                text = yaml.dump(config, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
            (path / "config.yaml").write_text(text.replace("\n  base: 0\n", f"\n  base: {seed}\n"))
            final = float(5 + of_seed[seed] + difference + noise.normal(0, 0.008))
            record = {"row": row, "seed": seed, "overrides": list(overrides), "identity": identity(config, "d" * 64)}
            (path / "record.json").write_text(json.dumps(_record(record, final, float(np.exp(noise.normal(0, 0.2))))))
            (path / "metrics.csv").write_text(_metrics(final, noise))


def _record(of_run: dict[str, object], final: float, cost: float) -> dict[str, object]:
    losses = {"early": final + 1, "final": final, "early_step": STEPS // 8, "final_step": STEPS}
    losses |= {"bits_per_byte": 0.37 * final, "early_bits_per_byte": 0.4 * final, "tokens": 14336, "bytes": 30712}
    speed = {"median": 14 / cost, "p25": 13 / cost, "p75": 15 / cost, "exclusive": 19 / cost}
    hardware = {"device": "A processor", "kind": "cpu", "devices": 1, "processor": "A processor", "cores": 2}
    command = f"ablate train sweep={SWEEP} 'row={of_run['row']}' seed={of_run['seed']}"
    of_sweep = {"schema": 1, "sweep": SWEEP, "command": command, "identity_schema": SCHEMA, "status": "done"}
    made_with = {"versions": {"torch": "2.13.0"}, "git": {"sha": "0" * 40, "dirty": False}, "hardware": hardware}
    costs = {"parameters": {"total": 640_000}, "ops_paper": 2.1e9, "flops_per_step": 7e9 * cost}
    costs |= {"steps_per_second": speed, "tokens_per_second": 28672 / cost, "peak_memory_bytes": 611_000_000}
    result = {"data": CORPUS, "loss": losses, "step": STEPS, "seconds": 15.5, "attempts": 1}
    return {**of_sweep, **of_run, **made_with, **costs, **result}


def _metrics(final: float, noise: np.random.Generator) -> str:
    lines = ["step,time,loss,learning_rate,grad_norm,kind,bits_per_byte"]
    for step in range(LOG_EVERY, STEPS + 1, LOG_EVERY):
        loss = final + 2.6 * (math.exp(-step / (STEPS / 6)) - math.exp(-6)) + float(noise.normal(0, 0.03))
        lines.append(f"{step},{step / 14:.3f},{loss!r},0.01,1.0,train,")
    lines.append(f"{STEPS // 8},1.0,{final + 1!r},,,validation,2.1")
    return "\n".join([*lines, f"{STEPS},9.9,{final!r},,,validation,1.85", ""])


def report(source: Path, folder: Path, name: str) -> dict[str, float]:
    """Seconds of the processor and bytes of peak memory of `ablate report` from the source tree `source`."""
    paths = [f"paths.{kind}={folder / kind}" for kind in ("runs", "sweeps")]
    line = [sys.executable, "-m", "ablate", "report", SWEEP, *paths, f"paths.reports={folder / name}"]
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    process = subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"no report from {source}")
    return {"processor time": used.ru_utime + used.ru_stime, "peak memory": used.ru_maxrss * 1024.0}


def main() -> int:
    """Measure both; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="fail above the ceilings")
    options = parser.parse_args()
    high = []
    with tempfile.TemporaryDirectory() as folder, checkout(options.against, Path(folder)) as before:
        make(Path(folder), options.rows, options.seeds)
        now, then = report(ROOT, Path(folder), "now"), report(before, Path(folder), "then")
    for name, ceiling in CEILINGS.items():
        ratio = now[name] / then[name]
        print(
            json.dumps(
                {"case": name, "ceiling": ceiling, "ratio": round(ratio, 3), "now": now[name], "before": then[name]}
            )
        )
        high += [name] if ratio > ceiling else []
    return verdict(high, check=options.check)


if __name__ == "__main__":
    sys.exit(main())
