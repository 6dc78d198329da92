"""Sending to W&B while a run goes on, to a stand-in for the service: what holds when it fails, and after kills."""

import contextlib
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.background import NICE
from ablate.config import compose
from ablate.integrations import wandb
from ablate.integrations.wandb_mirror import run_id
from ablate.process_tree import descendants, exists
from tests.faults import faults
from tests.integrations.conftest import CANARY
from tests.integrations.wandb_service import HANGING, HEALTHY, REJECTING, SLOW
from tests.training.standin import folder_of, in_child, run, start, wait

pytestmark = pytest.mark.timeout(180)
PATIENCE = 60.0


def at_leisure(seconds):
    """A fault: so many seconds more for each step."""

    def fault():
        from ablate.training.progress import Progress

        take = Progress.take

        def patched(self, *numbers):
            time.sleep(seconds)
            take(self, *numbers)

        Progress.take = patched

    return fault


def sent(folder):
    """Why it was not sent, once that is known."""
    (problem,) = wandb.wait([folder], PATIENCE).values()
    assert problem is not None, (folder / "wandb.log").read_text()
    return problem


def until(condition, seconds=PATIENCE):
    """What `condition` gives, once it is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def rows(folder):
    """(step, kind, loss) of metrics.csv."""
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        return [(int(row["step"]), row["kind"], float(row["loss"])) for row in csv.DictReader(file)]


def arrived(run):
    """The same of what the service has of a run."""
    kinds = [(line, next(key for key in line if key.endswith("/loss"))) for line in run.history]
    return [(line["step"], key.removesuffix("/loss"), line[key]) for line, key in kinds]


def mirrors(folder):
    """The processes of mirrors of this folder, and of all below them: {pid: command line}."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "ablate.integrations.wandb_mirror" in command and any(str(folder) in word for word in command):
                found[int(path.name)] = command
    for pid in [pid for top in found for pid in descendants(top)]:
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return found


@pytest.mark.slow
def test_curves_arrive_while_a_run_trains(asked, service, monkeypatch):
    """Within a minute, at the pace that W&B has by itself."""
    monkeypatch.delenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL")
    overrides = asked("logger=wandb", "sweep=mirrored", "norm=rmsnorm", "trainer.log_every=2")
    folder = folder_of(overrides).path
    began, child = time.monotonic(), start(overrides, at_leisure(1.2))
    until(lambda: any(run.history for run in service.runs.values()))
    assert time.monotonic() - began < 60
    assert json.loads((folder / "record.json").read_text())["status"] == "running"
    assert wait(child) == 0 and sent(folder) == ""
    (identifier,) = service.runs
    shown = service.runs[identifier]
    assert arrived(shown) == rows(folder) and shown.exit_code == 0
    assert (shown.told("groupName"), shown.told("jobType")) == ("mirrored", "tiny")
    assert shown.told("tags") == ["norm:rmsnorm", "schedule.peak:0.01"]
    assert shown.summary["loss/final"] == rows(folder)[-1][2] and shown.summary["status"] == "done"


def test_a_killed_run_goes_on_as_the_same_run(asked, service):
    overrides = asked("logger=wandb", "trainer.checkpoint_every=7")
    assert in_child(overrides, faults.at_step(30, signal.SIGKILL)) == -signal.SIGKILL
    folder = folder_of(overrides).path
    assert sent(folder) == ""
    (stopped,) = service.runs.values()
    assert arrived(stopped) == rows(folder) and stopped.exit_code == 1 and "loss/final" not in stopped.summary
    record = run(overrides)
    assert sent(folder) == "" and [*service.runs] == [run_id(record)]
    assert arrived(stopped) == rows(folder) and stopped.exit_code == 0 and "loss/final" in stopped.summary


@pytest.mark.parametrize("fault", ["nobody listens", HANGING, REJECTING, SLOW])
def test_a_bad_service_changes_no_result(fault, asked, service, monkeypatch):
    """All that is not sent then is sent by the command that is named, to a service that works."""
    undisturbed = run(asked("logger=files", "sweep=undisturbed"))
    service.mode = fault
    if fault == "nobody listens":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    overrides = asked("logger=wandb", "logger.mirror.sync_seconds=4")
    record = run(overrides)
    ended = time.monotonic()
    assert record.status == "done" and record.loss == undisturbed.loss
    folder = folder_of(overrides).path
    assert rows(folder) == rows(folder_of(asked("sweep=undisturbed")).path)
    problem, line = sent(folder), wandb.mirror_of(compose(overrides).logger).outcome_line(folder)
    assert time.monotonic() - ended < 4 + 10  # to start W&B, and to stop it
    assert problem and problem in line and len(line.splitlines()) == 1
    until(lambda: not mirrors(folder))
    service.mode = HEALTHY
    monkeypatch.setenv("WANDB_BASE_URL", service.url)
    command = shlex.split(line.split("`")[1])
    assert command == ["wandb", "sync", str(folder / "wandb")]
    subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:]], check=True, capture_output=True)
    assert arrived(service.runs[run_id(record)]) == rows(folder)


@pytest.mark.slow
def test_a_service_that_fails_for_a_while_gets_all_of_a_run(asked, service, monkeypatch):
    """W&B gives such a run up and says nothing at the end; the sync begins anew."""
    monkeypatch.setenv("WANDB_X_FILE_STREAM_RETRY_MAX", "1")
    overrides = asked("logger=wandb", "trainer.log_every=1")
    folder = folder_of(overrides).path
    child = start(overrides, at_leisure(1.2))
    until(lambda: any(run.history for run in service.runs.values()))
    service.mode = REJECTING
    until(lambda: "Fatal" in (folder / "wandb" / "sync.log").read_text())
    service.mode = HEALTHY
    assert wait(child) == 0 and sent(folder) == ""
    (shown,) = service.runs.values()
    assert arrived(shown) == rows(folder) and shown.exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("who, seconds", [("mirror", 5), ("run", 40)])
def test_nothing_outlives_a_kill(who, seconds, asked, service):
    """A service that hangs then holds nothing up: a mirror ends some seconds after its run, all below it with it."""
    overrides = asked("logger=wandb", "logger.mirror.sync_seconds=1000")
    folder = folder_of(overrides).path
    child = start(overrides, at_leisure(2))
    until(lambda: sum("wandb-core" in command[0] for command in mirrors(folder).values()) == 2)
    service.mode = HANGING
    (mirror,) = [pid for pid, command in mirrors(folder).items() if "ablate.integrations.wandb_mirror" in command]
    left = list(mirrors(folder))
    os.kill(mirror if who == "mirror" else child, signal.SIGKILL)
    try:
        until(lambda: not [pid for pid in left if exists(pid)], seconds)  # the run is yet to read how the mirror ended
    finally:
        if who == "mirror":
            os.kill(child, signal.SIGKILL)
        wait(child)


@pytest.mark.slow
def test_all_of_it_runs_at_a_low_priority(asked, service):
    """The mirror, the sync and both services of W&B, each of which has a session, and so a group, of its own."""
    overrides = asked("logger=wandb")
    folder = folder_of(overrides).path
    child = start(overrides, at_leisure(2))
    try:
        until(lambda: sum("wandb-core" in command[0] for command in mirrors(folder).values()) == 2)
        until(lambda: {*map(priority, mirrors(folder))} == {(NICE, str(NICE))}, 10)
    finally:
        os.kill(child, signal.SIGKILL)
        wait(child)
    assert sent(folder) == ""


def priority(pid):
    """The nice value of a process, and of its session, where that has one."""
    group = Path(f"/proc/{pid}/autogroup")
    try:
        words = group.read_text().split() if group.exists() else []
        return os.getpriority(os.PRIO_PROCESS, pid), words[-1] if words else str(NICE)
    except OSError:  # it has ended
        return NICE, str(NICE)


def test_the_key_is_nowhere(asked, service, tmp_path):
    overrides = asked("logger=wandb")
    folder = folder_of(overrides).path
    child, commands = start(overrides, at_leisure(0.1)), {}
    while (problem := wandb.wait([folder], 0).get(folder)) is None:
        commands |= {pid: command for pid, command in mirrors(folder).items() if any(command)}
    assert wait(child) == 0 and problem == "" and len(commands) >= 3, commands
    assert any("sync" in command for command in commands.values()), commands
    assert CANARY not in str(commands)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_a_sweeps_report_is_one_run_that_follows_its_results(service, tmp_path):
    mirror, runs, report = wandb.Mirror("ablate", None, 60), tmp_path / "runs", tmp_path / "reports" / "axes"
    report.mkdir(parents=True)
    (report / "forest.png").write_bytes(Path("reports/axes-c4/forest.png").read_bytes())
    for count, loss in enumerate([3.5, 3.5, 3.4], 1):
        (report / "results.csv").write_text(f"row,final_loss,verdict\nBase,{loss},\n")
        mirror.close_sweep("axes", runs, report.parent)
        assert sent(runs / "axes") == "" and mirror.outcome_line(runs / "axes") == "W&B: sent"
        (shown,) = service.runs.values()
        assert len([*(runs / "axes" / "wandb").glob("offline-run-*")]) == (1 if count < 3 else 2)
    assert shown.told("jobType") == "report" and shown.told("groupName") == "axes" and shown.exit_code == 0
    tables = [name for name in shown.uploaded if name.startswith("media/table/results")]
    assert len(tables) == 2 and any(name.startswith("media/images/plots/forest") for name in shown.uploaded)
    assert [*shown.summary["results"]["_type"]] == [*"table-file"]


def test_training_imports_nothing_of_it(asked):
    """`wandb` is imported by the process beside it alone."""
    script = (
        "import sys; from tests.training import standin; from _pytest.monkeypatch import MonkeyPatch;"
        "standin.install(MonkeyPatch()); assert standin.run(sys.argv[1:]).status == 'done';"
        "assert 'wandb' not in sys.modules"
    )
    overrides = asked("logger=wandb", "logger.mirror.sync_seconds=0")
    subprocess.run([sys.executable, "-c", script, *overrides], check=True)
    assert "offline" in sent(folder_of(overrides).path)
