"""Jobs of a Slurm cluster: what its commands are given, and what becomes of a job that it loses."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.errors import UserError
from ablate.process_tree import exists
from ablate.sweep import slurm as slurm_module
from ablate.sweep import slurm_queue
from ablate.sweep.slurm import SlurmStarters
from tests.sweep.conftest import PROGRAM, SWEEP

pytestmark = pytest.mark.timeout(90)

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
    """Two jobs of this trainer, and what has started them."""
    starters = SlurmStarters(PROGRAM, tmp_path / "jobs", settings, jobs=1)
    with starters.batch():
        jobs = [starters.start("module:function", number, tmp_path / f"log-{number}", trainer) for number in range(2)]
    return starters, jobs


def asked(slurm):
    """The options of the last submission, by name."""
    script = (slurm / "script.sh").read_text()
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))


def test_a_job_asks_for_what_its_run_needs(slurm, tmp_path):
    trainer = SimpleNamespace(accelerator="gpu", devices=2, threads=1)
    submitted(slurm, tmp_path, trainer, minutes=240, memory_gb=32, partition="gpu")
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
    assert {key: asked(slurm).get(key) for key in expected} == expected
    assert asked(slurm)["signal"].startswith("USR2@")


def test_a_job_without_gpus_asks_for_its_threads(slurm, tmp_path):
    trainer = SimpleNamespace(accelerator="cpu", devices=2, threads=3)
    submitted(slurm, tmp_path, trainer, minutes=5)
    assert (asked(slurm)["cpus-per-task"], asked(slurm)["time"]) == ("6", "5")
    assert asked(slurm).get("gpus-per-node", "0") == "0"


CPU = SimpleNamespace(accelerator="cpu", devices=1, threads=1)


def calls(slurm, command):
    """What a command of Slurm was called with, in order."""
    lines = (slurm / "calls").read_text().splitlines()
    return [line.removeprefix(command).strip() for line in lines if line.startswith(command)]


def test_jobs_are_cancelled_in_one_call_and_once(slurm, tmp_path):
    starters, (first, second) = submitted(slurm, tmp_path, CPU, minutes=5)
    assert starters.stop([first, second], signal.SIGTERM) == ""
    assert calls(slurm, "scancel") == ["77_0 77_1"]
    assert starters.stop([first, second], signal.SIGKILL) == ""  # Slurm does that
    assert len(calls(slurm, "scancel")) == 1


def test_a_scancel_that_fails_is_said_and_tried_again(slurm, tmp_path):
    starters, jobs = submitted(slurm, tmp_path, CPU, minutes=5)
    (slurm / "scancel").write_text("#!/bin/sh\nexit 1\n")
    assert starters.stop(jobs, signal.SIGTERM).endswith("by hand: scancel 77_0 77_1")
    (slurm / "scancel").write_text(STUB.format(folder=slurm))
    assert starters.stop(jobs, signal.SIGKILL) == ""
    assert calls(slurm, "scancel") == ["77_0 77_1"]


def test_a_scancel_that_does_not_answer_is_not_waited_for(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_queue, "CALL_LIMIT", 0.3)
    starters, jobs = submitted(slurm, tmp_path, CPU, minutes=5)
    (slurm / "scancel").write_text("#!/bin/sh\nexec sleep 600\n")
    assert "did not answer" in starters.stop(jobs, signal.SIGTERM)


def test_a_sbatch_that_does_not_answer_is_ended_and_said(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_module, "SUBMIT_LIMIT", 1.0)
    (slurm / "sbatch").write_text(f"#!/bin/sh\necho $$ > {slurm}/pid\nexec sleep 600\n")
    with pytest.raises(UserError, match="^slurm: sbatch has not answered for 1 s; squeue says"):
        submitted(slurm, tmp_path, CPU, minutes=5)
    pid = int((slurm / "pid").read_text())
    while exists(pid):
        time.sleep(0.01)


def test_a_sbatch_that_refuses_is_a_line_and_its_jobs_have_ended(slurm, tmp_path):
    (slurm / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition specified: gpu >&2\nexit 1\n")
    starters = SlurmStarters(PROGRAM, tmp_path / "jobs", {"minutes": 5}, jobs=1)
    with pytest.raises(UserError, match="^slurm: .*invalid partition specified: gpu$"), starters.batch():
        job = starters.start("module:function", 0, tmp_path / "log", CPU)
    assert job.poll() == 1 and job.reason == "it could not be submitted" and not job.waits
    assert starters.stop([job], signal.SIGTERM) == "" and not (slurm / "calls").exists()


def test_a_driver_that_is_stopped_cancels_all_jobs_at_once(slurm, place):
    """And ends, although nobody tells it that they have ended."""
    (slurm / "queue").write_text("77_0 RUNNING\n77_1 RUNNING\n77_2 PENDING\n77_3 PENDING\n")
    place.write(SWEEP + "base: [trainer=cpu]\n")
    driver = place.start(slurm={"minutes": 5})
    deadline = time.monotonic() + 60
    while not (slurm / "calls").exists() or not calls(slurm, "squeue"):
        assert time.monotonic() < deadline and driver.poll() is None
        time.sleep(0.02)
    for _ in range(2):
        driver.send_signal(signal.SIGINT)
        time.sleep(0.5)
    said, _ = driver.communicate(timeout=20)
    assert driver.returncode == 130, said
    assert calls(slurm, "scancel") == ["77_0 77_1 77_2 77_3"]
    assert "not waited for any longer: Base · seed 0, Rms · seed 0" in said


def test_what_does_not_end_when_its_time_is_over_is_killed(place, tmp_path):
    begun, log = tmp_path / "begun", tmp_path / "log.txt"
    call = f"slurm.task('tests.sweep.test_slurm:never_ends', {str(begun)!r}, {str(log)!r}, 1)"
    script = f"import sys; from ablate.sweep import slurm; slurm.STOP_LIMIT = 0.5; sys.exit({call})"
    job = subprocess.Popen([sys.executable, "-c", script])
    while not begun.exists():
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(30) == 256 - signal.SIGKILL
    assert not place.processes()


def never_ends(argument):
    """A job that does not hear."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(argument).touch()
    time.sleep(60)


def test_a_cluster_without_accounting_is_asked_for_it_once(slurm):
    now = 0.0
    queue = slurm_queue.Queue(lambda: now)
    (slurm / "queue").write_text("")
    for job in ("77_0", "77_1", "77_0", "77_1"):
        queue.gone(job)
        now += slurm_queue.GONE_AFTER
    assert queue.gone("77_0") and queue.gone("77_1")
    assert len(calls(slurm, "sacct")) == 1


def test_a_squeue_that_takes_its_time_is_not_asked_for_each_job(slurm, monkeypatch):
    now, asked = 0.0, []

    def slow(*command):
        nonlocal now
        asked.append(command)
        now += slurm_queue.CALL_LIMIT

    monkeypatch.setattr(slurm_queue, "call", slow)
    queue = slurm_queue.Queue(lambda: now)
    for job in range(5):
        queue.state(f"77_{job}")
    assert len(asked) == 1


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
