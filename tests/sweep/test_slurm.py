"""Jobs of a Slurm cluster: what its commands are given, and what becomes of a job that it loses."""

import os
import re
import stat
from types import SimpleNamespace

import pytest

from ablate.sweep import slurm_queue
from ablate.sweep.slurm import SlurmStarters
from tests.sweep.conftest import PROGRAM

STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "{folder}/calls"
"""
SBATCH = 'cp "$1" "{folder}/script.sh"; echo Submitted batch job 77\n'
SQUEUE = 'cat "{folder}/queue" || exit 1\n'


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder with stubs of Slurm's commands, on the PATH: `queue` is what squeue prints, which fails without it.

    There is no accounting: sacct fails.
    """
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in {"sbatch": SBATCH, "srun": "", "squeue": SQUEUE, "scancel": "", "sacct": "exit 1\n"}.items():
        path = folder / name
        path.write_text((STUB + does).format(folder=folder))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def submitted(slurm, tmp_path, trainer, **settings):
    """What two jobs of this trainer ask for, by the name of the option, and the jobs."""
    starters = SlurmStarters(PROGRAM, tmp_path / "jobs", settings, jobs=1)
    with starters.batch():
        jobs = [starters.start("module:function", number, tmp_path / f"log-{number}", trainer) for number in range(2)]
    script = (slurm / "script.sh").read_text()
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE)), jobs


def test_a_job_asks_for_what_its_run_needs(slurm, tmp_path):
    trainer = SimpleNamespace(accelerator="gpu", devices=2, threads=1)
    asked, _ = submitted(slurm, tmp_path, trainer, minutes=240, memory_gb=32, partition="gpu")
    expected = {
        "array": "0-1%1",
        "nodes": "1",
        "ntasks-per-node": "1",
        "cpus-per-task": "8",  # four a GPU
        "gpus-per-node": "2",
        "time": "240",
        "mem": "32GB",
        "partition": "gpu",
    }
    assert {key: asked.get(key) for key in expected} == expected
    assert asked["signal"].startswith("USR2@")


def test_a_job_without_gpus_asks_for_its_threads(slurm, tmp_path):
    trainer = SimpleNamespace(accelerator="cpu", devices=2, threads=3)
    asked, _ = submitted(slurm, tmp_path, trainer, minutes=5)
    assert (asked["cpus-per-task"], asked["time"]) == ("6", "5")
    assert asked.get("gpus-per-node", "0") == "0"


def test_stopping_a_job_cancels_it(slurm, tmp_path):
    trainer = SimpleNamespace(accelerator="cpu", devices=1, threads=1)
    _, (first, second) = submitted(slurm, tmp_path, trainer, minutes=5)
    second.stop(15)
    assert (slurm / "calls").read_text().splitlines()[-1] == f"scancel {second.job.job_id}"
    assert first.job.job_id != second.job.job_id


def test_a_job_that_vanishes_from_the_queue_has_ended(slurm):
    """Also where the cluster keeps no account of jobs, which is what submitit alone would ask for."""
    now = 0.0
    queue = slurm_queue.Queue(lambda: now)
    (slurm / "queue").write_text("77_0 RUNNING\n77_1 PENDING\n")
    assert (queue.state("77_0"), queue.state("77_1"), queue.state("5")) == ("RUNNING", "PENDING", "")
    assert queue.gone("77_0") == ""
    (slurm / "queue").write_text("77_1 RUNNING\n")
    now += slurm_queue.ASK_EVERY
    assert queue.gone("77_0") == ""  # its files may be on their way
    now += slurm_queue.GONE_AFTER - 1
    assert queue.gone("77_0") == ""
    now += slurm_queue.ASK_EVERY
    assert queue.gone("77_0") == "vanished from the queue without a result"
    assert queue.gone("77_1") == ""


def test_a_job_that_comes_back_lives(slurm):
    now = 0.0
    queue = slurm_queue.Queue(lambda: now)
    for listed in ("", "77_0 RUNNING\n", ""):
        (slurm / "queue").write_text(listed)
        now += slurm_queue.GONE_AFTER
        assert queue.gone("77_0") == ""


def test_a_silent_slurm_is_not_waited_for_without_end(slurm):
    now = 0.0
    queue = slurm_queue.Queue(lambda: now)
    now += slurm_queue.SILENT_AFTER  # squeue fails
    assert queue.gone("77_0") == ""
    now += 60
    assert queue.gone("77_0") == "Slurm has not answered for 61 min"
