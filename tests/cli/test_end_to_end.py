"""From text to report by the command alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BASE = ["shape=nano", "data=local", "data.files=[text.jsonl]", "shape.steps=6", "evaluation.heldout.tokens=2048"]
SWEEP = f"""
question: Does it run?
base: {json.dumps(BASE)}
baseline: Base
rows:
  Base: []
  RMS Norm: [norm=rmsnorm]
  "GLU (x)": [activation=glu]
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A current directory with text, a sweep, and a canary for a key."""
    folder = tmp_path_factory.mktemp("work")
    words, rng = [f"word{i}" for i in range(400)], random.Random(0)
    lines = (json.dumps({"text": " ".join(rng.choices(words, k=60))}) for _ in range(3000))
    (folder / "text.jsonl").write_text("\n".join(lines))
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "tiny.yaml").write_text(SWEEP + "seeds: {baseline: 3, rows: 3}\n")
    refused = SWEEP.replace("norm=rmsnorm", "norm=batchnorm").replace("activation=glu", "block.placement=middle")
    (folder / "sweeps" / "refused.yaml").write_text(refused)
    return folder


def ablate(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "WANDB_API_KEY": "CANARY123"}
    command = [sys.executable, "-m", "ablate", *words]
    return subprocess.run(command, cwd=here, env=env, capture_output=True, text=True)


def test_train_and_train_again(here):
    first = ablate(here, "train", *BASE, "seed=1")
    assert first.returncode == 0, first.stderr
    assert "seed 1: done, final loss" in first.stdout
    (record,) = (here / "runs" / "adhoc").glob("*/seed-1/record.json")
    before = record.read_bytes()
    again = ablate(here, "train", *BASE, "seed=1")
    assert again.returncode == 0 and again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert record.read_bytes() == before


def test_multirun(here):
    done = ablate(here, "train", "-m", *BASE, "norm=layernorm,rmsnorm", "seed=7")
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in (here / "runs" / "adhoc").glob("*/seed-7/record.json")]
    assert {record["status"] for record in records} == {"done"} and len(records) == 2
    assert len({record["identity"] for record in records}) == 2


def test_two_devices_refuse_a_multirun(here):
    done = ablate(here, "train", "-m", *BASE, "norm=layernorm,rmsnorm", "trainer.devices=2")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_a_sweep_to_its_report(here):
    done = ablate(here, "sweep", "tiny", "timing=30")
    assert done.returncode == 0, done.stderr
    report = (here / "reports" / "tiny" / "report.md").read_bytes()
    status = ablate(here, "status", "tiny")
    assert "9 runs: 9 done" in status.stdout
    one = ablate(here, "train", "sweep=tiny", "row=GLU (x)", "seed=1")
    assert one.returncode == 0 and "GLU (x), seed 1: done" in one.stdout
    again = ablate(here, "sweep", "tiny", "timing=30")
    assert again.returncode == 0 and (here / "reports" / "tiny" / "report.md").read_bytes() == report
    difference = ablate(here, "diff", "tiny/Base/0", "tiny/RMS Norm/0")
    assert "norm._target_" in difference.stdout and "data" not in difference.stdout
    shutil.rmtree(here / "runs" / "tiny")
    assert ablate(here, "report", "tiny").returncode == 0
    assert (here / "reports" / "tiny" / "report.md").read_bytes() == report


def test_rows_that_cannot_be_built_are_told_before_any_run(here):
    done = ablate(here, "sweep", "refused")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert any(line.startswith("ablate: RMS Norm: norm=batchnorm takes its statistics") for line in lines)
    assert any(line.startswith("ablate: GLU (x): block.placement=middle") for line in lines)
    assert not list((here / "runs" / "refused").glob("*/seed-*"))


def test_no_secret_is_written_anywhere(here):
    leak = ablate(here, "train", *BASE, "row=${oc.env:WANDB_API_KEY}")
    assert leak.returncode == 2 and "CANARY123" not in leak.stderr + leak.stdout
    for path in here.rglob("*"):
        assert not path.is_file() or b"CANARY123" not in path.read_bytes(), path
