"""Variables that torchrun or Slurm left in the environment do not make a run a part of another one."""

import json
import os
import subprocess
import sys

import pytest

from ablate.config import merge
from tests.data.conftest import texts, write_jsonl
from tests.training.standin import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LEFT = {
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1", "NODE_RANK": "1",
    "MASTER_ADDR": "192.0.2.1", "MASTER_PORT": "1", "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "1",
    "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "a,b",
}  # fmt: skip


@pytest.fixture
def train(tmp_path):
    """`train(name, *overrides, **variables)`: a run's last line without its folder, its record, and what it printed."""
    text = write_jsonl(tmp_path / "text.jsonl", texts(400))

    def call(name, *more, **variables):
        usual = ["data=local", f"data.files=[{text}]", f"paths.data={tmp_path / 'data'}", "shape.vocab_size=768"]
        words = merge(TINY, [*usual, "shape.steps=4", f"paths.runs={tmp_path / name}", *more])
        environment = {name: value for name, value in os.environ.items() if name not in LEFT}
        line = [sys.executable, "-m", "ablate", "train", *words]
        done = subprocess.run(line, env={**environment, **variables}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        (record,) = (tmp_path / name).rglob("record.json")
        last = done.stdout.splitlines()[-1]
        return last.replace(str(tmp_path / name), ""), json.loads(record.read_text()), done

    return call


@pytest.mark.parametrize("devices", ["1", "2"])
def test_a_run_is_the_same_beside_them(train, devices):
    of = [f"trainer.devices={devices}", "dropout=0.0"]
    clean, left = train("clean", *of), train("left", *of, **LEFT)
    assert left[0] == clean[0] and "done" in left[0]
    assert left[1]["loss"] == clean[1]["loss"] and left[1]["identity"] == clean[1]["identity"]
    assert left[1]["status"] == "done" and left[1]["hardware"]["devices"] == int(devices)
