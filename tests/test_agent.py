"""What a run of several processes died of is said; one that is stopped is noticed, named, and ended in time."""

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from ablate import agent
from ablate.process_tree import descendants, is_stopped, parent_of, variable
from ablate.run.folder import RunFolder

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def failures(**codes):
    """Failures as torchrun has them, {rank: (exit code, second)}."""
    return {int(rank[1:]): SimpleNamespace(exitcode=code, timestamp=at) for rank, (code, at) in codes.items()}


@pytest.mark.parametrize(
    ("found", "reported", "said"),
    [
        ({"r0": (1, 100), "r1": (-9, 100)}, "", "process 1 was killed (SIGKILL); often the system ran out of memory"),
        ({"r0": (143, 101), "r1": (-11, 100)}, "connection closed", "process 1 was killed (SIGSEGV)"),
        ({"r0": (-40, 100)}, "", "process 0 was killed (signal 40)"),
        ({"r0": (1, 100), "r1": (-9, 130)}, "process 0: ValueError: bad", ""),
        ({"r0": (1, 100), "r1": (-9, 130)}, "process 0: RuntimeError: Timed out waiting",
         "process 1 did not answer; the others waited until their time limit"),
        ({"r0": (1, 100), "r1": (-9, 130)}, "RuntimeError: timeout",
         "process 1 did not answer; the others waited until their time limit"),
        ({"r0": (1, 100), "r1": (-15, 100)}, "process 0: ValueError: bad", ""),
        ({"r1": (3, 100)}, "", ""),
    ],
)  # fmt: skip
def test_the_process_that_died_is_named(found, reported, said):
    assert agent.verdict(failures(**found), reported) == said


@pytest.fixture
def sleeper():
    """A process that sleeps, with the environment of process 1."""
    line = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    process = subprocess.Popen(line, env={**os.environ, "RANK": "1"}, stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    while not is_stopped(pid):
        time.sleep(0.01)


@linux
def test_a_stopped_process_is_noticed_and_named_and_ended(sleeper, tmp_path, capfd):
    folder = RunFolder(tmp_path)
    watch, found = agent.Watch(folder), {sleeper.pid: 1}
    watch.look(found)
    stop(sleeper.pid)
    looks = int(agent.NOTICED_AFTER / agent.LOOK_EVERY)
    for _ in range(looks - 1):
        watch.look(found)
    assert folder.death() == "" and capfd.readouterr().err == ""
    for _ in range(3):
        watch.look(found)
    said = capfd.readouterr().err
    assert folder.death() == "process 1 is stopped (SIGSTOP)"
    assert said.count("process 1 is stopped (SIGSTOP); all wait for it, 5 min") == 1
    for _ in range(int(agent.ENDED_AFTER / agent.LOOK_EVERY)):
        watch.look(found)
    assert sleeper.wait(5) == -signal.SIGKILL
    assert watch.verdict.startswith("process 1 was stopped (SIGSTOP) for 5 min")
    watch.conclude(watch.verdict)
    assert folder.failure() == watch.verdict and watch.verdict in capfd.readouterr().err


@linux
def test_one_that_goes_on_is_forgotten(sleeper, tmp_path, capfd):
    folder = RunFolder(tmp_path)
    watch, found = agent.Watch(folder), {sleeper.pid: 1}
    stop(sleeper.pid)
    for _ in range(int(agent.NOTICED_AFTER / agent.LOOK_EVERY)):
        watch.look(found)
    assert folder.death()
    os.kill(sleeper.pid, signal.SIGCONT)
    time.sleep(0.1)
    watch.look(found)
    assert folder.death() == "" and "no process is stopped any more" in capfd.readouterr().err
    assert not watch.verdict and sleeper.poll() is None and watch.seconds == {}


@linux
def test_the_processes_of_a_run_are_its_children_with_a_rank(sleeper):
    assert agent.workers()[sleeper.pid] == 1
    assert sleeper.pid in descendants(os.getpid()) and parent_of(sleeper.pid) == os.getpid()
    assert variable(sleeper.pid, "RANK") == "1" and variable(sleeper.pid, "RAN") is None


def test_the_command_line_holds_the_job():
    line = agent.command(2, "some.module", ["a"], None)
    assert line[:4] == [sys.executable, "-u", "-m", "ablate.agent"]
    assert json.loads(line[4]) == {"processes": 2, "module": "some.module", "arguments": ["a"], "folder": None}


def run_agent(folder, worker, limit=60, **changed):
    """Run the agent, in which constants are `changed`, on two processes of the script `worker`."""
    (folder / "some_worker.py").write_text(worker)
    changes = "".join(f"agent.{name} = {value}; " for name, value in changed.items())
    line = agent.command(2, "some_worker", [], folder)
    line[2:4] = ["-c", f"import sys; from ablate import agent; {changes}sys.exit(agent.main())"]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}:{os.getcwd()}"}
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=limit, check=False)


WORKER = """
import os, signal, sys, time
time.sleep(1)
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(120)
"""


@pytest.mark.slow
@pytest.mark.timeout(100)
@linux
def test_one_that_dies_ends_all_also_where_the_other_waits(tmp_path):
    done = run_agent(tmp_path, WORKER)
    assert done.returncode not in (0, 130, 143)
    assert done.stderr.count("process 1 was killed (SIGKILL)") == 1
    assert RunFolder(tmp_path).death().startswith("process 1 was killed (SIGKILL)")


@pytest.mark.slow
@pytest.mark.timeout(100)
@linux
def test_a_stopped_one_ends_all_and_is_named(tmp_path):
    done = run_agent(tmp_path, WORKER.replace("SIGKILL", "SIGSTOP"), NOTICED_AFTER=1.0, ENDED_AFTER=3.0)
    assert "process 1 is stopped (SIGSTOP); all wait for it" in done.stderr
    assert RunFolder(tmp_path).death().startswith("process 1 was stopped (SIGSTOP) for 3")


@pytest.mark.slow
@pytest.mark.timeout(100)
@linux
def test_a_run_that_is_asked_to_end_died_of_nothing(tmp_path):
    RunFolder(tmp_path).write_death("process 1 is stopped (SIGSTOP)")
    asks = "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
    asks += "os.environ['RANK'] == '0' and os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)\n"
    assert run_agent(tmp_path, asks).returncode == 143
    assert RunFolder(tmp_path).death() == ""
