"""Ways to start a job: forked, fresh, under torchrun, through submitit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.errors import UserError
from ablate.sweep import devices, fork_server, workers
from ablate.sweep.workers import RESTARTS, Forked, Starters, start_fresh
from tests.sweep.conftest import PROGRAM

pytestmark = pytest.mark.timeout(90)


def finished(handle, seconds=60.0):
    deadline = time.monotonic() + seconds
    while (code := handle.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return code


def report(argument):
    """What a job sees: written to the file `argument`."""
    import os
    import threading

    seen = {"threads": threading.active_count(), "session": os.getsid(0) == os.getpid()}
    seen |= {"environment": dict(os.environ), "input": os.readlink("/proc/self/fd/0")}
    with open(argument, "a") as file:
        file.write(json.dumps(seen) + "\n")
    print("said to the log")
    return 5


@pytest.fixture
def with_input(tmp_path):
    """Something to read on the standard input of this process, as a terminal is."""
    (tmp_path / "typed").write_text("typed for the driver")
    before = os.dup(0)
    with open(tmp_path / "typed") as file:
        os.dup2(file.fileno(), 0)
    yield
    os.dup2(before, 0)
    os.close(before)


def test_a_forked_job_has_its_own_session_log_and_environment(tmp_path, place, with_input):
    forked = Forked("json")
    try:
        log = tmp_path / "a" / "log.txt"
        code = finished(forked.start("tests.sweep.test_workers:report", str(tmp_path / "seen"), log))
        assert os.getsid(forked.server.pid) == forked.server.pid  # Ctrl-C in the terminal is the driver's business
        seen = json.loads((tmp_path / "seen").read_text())
        assert code == 5 and seen["session"] and seen["threads"] == 1 and seen["input"] == os.devnull
        assert fork_server.ENVIRONMENT.items() <= seen["environment"].items()
        assert log.read_text() == "said to the log\n"
    finally:
        forked.close()
    assert not place.processes()


def test_a_preload_that_fails_is_no_failure_of_a_run(tmp_path):
    forked = Forked("no_such_module")
    with pytest.raises(UserError, match="preloads the imports exited with code 1"):
        finished(forked.start("time:sleep", 0, tmp_path / "log"))


def dies_on_import(folder, monkeypatch, times):
    """The name of a module that kills the process which imports it, so many times."""
    (folder / "deadly.py").write_text(
        "import os, signal\n"
        f"with open({str(folder / 'imports')!r}, 'a+') as file:\n"
        "    file.write('x'); file.seek(0); count = len(file.read())\n"
        f"if count <= {times}:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(folder)
    return "deadly"


def test_a_fork_server_that_is_killed_while_it_imports_is_started_again(tmp_path, monkeypatch, capfd):
    forked = Forked(dies_on_import(tmp_path, monkeypatch, RESTARTS))
    jobs = [forked.start("tests.sweep.test_workers:report", str(tmp_path / "seen"), tmp_path / "log") for _ in range(2)]
    try:
        assert [finished(job) for job in jobs] == [5, 5]
    finally:
        forked.close()
    said = "the process that preloads the imports was killed (SIGKILL); another is started"
    assert capfd.readouterr().err.count(said) == RESTARTS == 2
    assert len((tmp_path / "seen").read_text().splitlines()) == 2


def test_one_that_is_killed_each_time_is_given_up_in_a_line(tmp_path, monkeypatch):
    forked = Forked(dies_on_import(tmp_path, monkeypatch, 99))
    with pytest.raises(UserError, match=r"^the process that preloads the imports was killed \(SIGKILL\); its output"):
        finished(forked.start("time:sleep", 0, tmp_path / "log"))
    assert len((tmp_path / "imports").read_text()) == 1 + RESTARTS


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_fork_server_that_is_stopped_is_continued(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(workers, "STOPPED_SERVER", 0.2)
    forked = Forked("json")
    try:
        assert finished(forked.start("time:sleep", 0, tmp_path / "log")) == 0
        server = forked.server.pid
        os.kill(server, signal.SIGSTOP)
        assert finished(forked.start("tests.sweep.test_workers:report", str(tmp_path / "seen"), tmp_path / "log")) == 5
    finally:
        forked.close()
    said = f"the fork server (process {server}) was stopped; it is continued"
    assert said in capfd.readouterr().err


def test_a_fresh_job(tmp_path, place, with_input):
    log = tmp_path / "log.txt"
    job = start_fresh("tests.sweep.test_workers:report", str(tmp_path / "seen"), log, variables={"GPU": "5"})
    assert finished(job) == 5
    seen = json.loads((tmp_path / "seen").read_text())
    assert seen["session"] and seen["input"] == os.devnull and "said to the log" in log.read_text()
    assert {**fork_server.environment(), "GPU": "5"}.items() - {**os.environ}.items() <= (seen["environment"].items())
    assert set(seen["environment"]["PYTHONPATH"].split(os.pathsep)) == {entry for entry in sys.path if entry}


def test_stopping_a_fresh_job_ends_what_it_started(tmp_path, place):
    job = start_fresh("os:system", "sleep 1000 & setsid sleep 1000", tmp_path / "log.txt")
    while len(place.processes()) < 3:
        time.sleep(0.02)
    job.stop(signal.SIGKILL)
    assert finished(job) == -9
    time.sleep(0.1)
    assert not place.processes()


@pytest.mark.slow
def test_several_devices_go_through_torchrun(tmp_path, place):
    starters = Starters(PROGRAM, jobs=1)
    trainer = SimpleNamespace(devices=2, accelerator="cpu")
    job = starters.start("tests.sweep.test_workers:report", str(tmp_path / "seen"), tmp_path / "log.txt", trainer)
    finished(job)
    seen = [json.loads(line)["environment"] for line in (tmp_path / "seen").read_text().splitlines()]
    assert {(one["RANK"], one["WORLD_SIZE"]) for one in seen} >= {("0", "2")}
    assert not place.processes()


def test_each_gpu_goes_to_the_least_busy(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    slots = devices.Slots()
    first, second, third = slots.take(1), slots.take(1), slots.take(1)
    assert (first, second) == (["2"], ["5"]) and third == ["2"]
    slots.give_back(second)
    assert slots.take(1) == ["5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices.gpus() == []
    assert not devices.uses_gpu(SimpleNamespace(accelerator="auto"))


def test_gpus_are_not_shared_unless_asked(monkeypatch):
    of_two = SimpleNamespace(devices=2, accelerator="gpu")
    on_cpu = SimpleNamespace(devices=1, accelerator="cpu", threads=1)
    monkeypatch.setattr(devices, "cores", lambda: 6)
    for visible, expected in (("0", 1), ("0,1", 1), ("0,1,2,3", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert devices.jobs_at_a_time([on_cpu, of_two]) == expected
        assert devices.jobs_at_a_time([on_cpu, of_two], per_device=3) == 3 * expected
        assert devices.jobs_at_a_time([on_cpu]) == devices.jobs_at_a_time([on_cpu], per_device=3) == 6
    of_one = SimpleNamespace(devices=1, accelerator="gpu")
    assert devices.runs_on_a_gpu([of_one], jobs=8) == 2 and devices.runs_on_a_gpu([of_two], jobs=3) == 2
    assert devices.runs_on_a_gpu([on_cpu], jobs=8) == 0
    slots = devices.Slots()
    assert [slots.take(1) for _ in range(8)] == [[name] for name in "01230123"]


def test_runs_fill_the_cores_and_no_more(monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    trainer = lambda threads, processes=1: SimpleNamespace(accelerator="auto", threads=threads, devices=processes)  # noqa: E731
    for expected, trainers in (
        (6, [trainer(1)]), (3, [trainer(2)]), (1, [trainer(4)]), (1, [trainer(8)]), (2, [trainer(1), trainer(1, 3)]),
    ):  # fmt: skip
        assert devices.jobs_at_a_time(trainers) == expected


def test_runs_can_go_through_submitit(place):
    place.behave(Rms="exit")
    code, said = place.drive(slurm={"cluster": "local"})
    assert code == 1, said
    states = place.states()
    assert states.pop(("Rms", 0)) == "failed" and set(states.values()) == {"done"}, said
    assert "exited with code 7" in said


def test_without_slurm_it_says_so(place):

    for settings, told in (
        ({"partition": "gpu"}, "give minutes"),
        ({"partition": "gpu", "minutes": 240}, "slurm: .*srun"),
    ):
        with pytest.raises(UserError, match=told):
            place.drive(slurm=settings)


def test_a_node_is_told_what_to_train_on():
    from ablate.sweep.slurm import SlurmStarters

    starters = object.__new__(SlurmStarters)
    starters.here = False
    with pytest.raises(UserError, match="trainer=gpu or trainer=cpu"):
        starters.start("a:b", {}, None, SimpleNamespace(accelerator="auto", threads=1, devices=1))


def saves(argument):
    """A job that saves when it hears of a SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
    Path(argument).touch()
    time.sleep(60)


def test_a_job_whose_time_is_over_saves(tmp_path, place):
    """Slurm's warning comes as SIGUSR2, as submitit asks for."""
    begun, log = tmp_path / "begun", tmp_path / "log.txt"
    call = f"sys.exit(task('tests.sweep.test_workers:saves', {str(begun)!r}, {str(log)!r}, 1))"
    job = subprocess.Popen([sys.executable, "-c", f"import sys; from ablate.sweep.slurm import task; {call}"])
    while not begun.exists():
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(30) == 9


def saves_slowly(argument):
    """A job that takes a while over its checkpoint."""

    def save(*_):
        time.sleep(0.5)
        Path(argument).write_text("saved")
        sys.exit(9)

    signal.signal(signal.SIGTERM, save)
    Path(argument).touch()
    time.sleep(60)


def test_a_forked_job_has_time_to_save_when_the_driver_ends(tmp_path, place):
    forked, begun = Forked("json"), tmp_path / "begun"
    job = forked.start("tests.sweep.test_workers:saves_slowly", str(begun), tmp_path / "log.txt")
    while not begun.exists():
        assert job.poll() is None
        time.sleep(0.02)
    forked.close()
    assert begun.read_text() == "saved" and not place.processes()


def test_text_is_prepared_on_all_cores(monkeypatch):
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert fork_server.environment()["RAYON_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))
    monkeypatch.setenv("RAYON_NUM_THREADS", "3")
    assert fork_server.environment()["RAYON_NUM_THREADS"] == "3"
