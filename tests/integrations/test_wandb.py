"""W&B as a mirror, read back with W&B's own command."""

import dataclasses
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
from ablate.integrations import wandb
from ablate.integrations.wandb import run_id
from tests.faults import faults
from tests.training.standin import folder_of, in_child, run

CANARY = "c0ffee" * 6 + "feed"
WANDB = [str(Path(sys.executable).with_name("wandb"))]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No login of whoever runs the tests, and W&B as offline as it is by itself."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


def waited(folder, count=1):
    """The offline runs under `folder`, once the mirror says that so many are written."""
    deadline, log = time.monotonic() + 90, folder / "wandb.log"
    while time.monotonic() < deadline:
        if log.exists() and log.read_text().count("sends it") == count:
            return sorted((folder / "wandb").glob("offline-run-*"))
        time.sleep(0.1)
    raise AssertionError(log.read_text() if log.exists() else "no log")


def inspected(path):
    """What W&B's own command reads in an offline run: (summary, all records)."""

    def call(*more):
        command = [*WANDB, "leet", "inspect", *more, "--json", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    return json.loads(call("--summary").stdout), [json.loads(line) for line in call().stdout.splitlines()]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run to mirror"):
        wandb.mirror_run(wandb.Mirror("ablate", None, 0), tmp_path, None)


def test_what_an_earlier_mirror_wrote_is_not_written_again(asked, monkeypatch):
    """Of a run that was stopped and goes on: each of its mirrors begins behind the last step of the one before."""
    overrides, logged, events = asked(), [], []
    assert in_child(overrides, faults.at_step(20, signal.SIGTERM)) == 143
    folder = folder_of(overrides)
    (folder.path / "wandb").mkdir()
    recorder = SimpleNamespace(
        define_metric=lambda *_, **__: None,
        log=lambda row, step: logged.append(step),
        summary={},
        finish=lambda exit_code: events.append(f"finish {exit_code}"),
        settings=SimpleNamespace(sync_dir=folder.path),
    )
    monkeypatch.setattr(wandb, "_init", lambda *_, **__: recorder)
    monkeypatch.setattr(wandb, "_send", lambda *_: events.append("send"))
    for go_on in (lambda: None, lambda: run(overrides), lambda: None):
        go_on()
        wandb.mirror_run(wandb.Mirror("ablate", None, 0), folder.path, None)
    lines = folder.metrics.read_text().splitlines()
    assert logged == [int(line.split(",")[0]) for line in lines[1:]] and logged[-1] == 40
    assert events == ["finish 1", "send", "finish 0", "send", "finish 0", "send"]  # 1: it was stopped


def test_a_report_is_whole_before_it_is_sent(monkeypatch, tmp_path):
    events = []
    recorder = SimpleNamespace(finish=lambda: events.append("finish"), settings=SimpleNamespace(sync_dir=tmp_path))
    monkeypatch.setattr(wandb, "_init", lambda *_, **__: recorder)
    monkeypatch.setattr(wandb, "_send", lambda *_: events.append("send"))
    wandb.mirror_report(wandb.Mirror("ablate", None, 0), tmp_path, "axes", tmp_path / "report", None)
    assert events == ["finish", "send"]


def test_the_mirror_is_in_a_session_of_its_own(monkeypatch, tmp_path):
    """So that Ctrl-C in the terminal, which ends the run, leaves it time to write."""
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(wandb.subprocess, "Popen", lambda *args, **options: started.append(popen(*args, **options)))
    wandb.Mirror("ablate", None, 0).follow(tmp_path)
    (process,) = started
    session = os.getsid(process.pid)
    process.kill()
    process.wait()
    assert session == process.pid


def test_a_run_is_mirrored_whole(asked):
    overrides = asked("logger=wandb", "sweep=mirrored", "norm=rmsnorm")
    record = run(overrides)
    folder = folder_of(overrides).path
    (path,) = waited(folder)
    summary, records = inspected(path)
    text = json.dumps([summary, *records])
    assert path.name.endswith(run_id(record))
    assert run_id(record) != run_id(dataclasses.replace(record, sweep="another"))  # the same model in two sweeps
    for told in ("mirrored", "tiny", "norm:rmsnorm", "train/loss", "validation/loss", "loss/final", "parameters/total"):
        assert told in text, told
    assert str(record.loss.final)[:8] in text and "shape" in text


@pytest.mark.slow
def test_a_killed_runs_next_attempt_goes_on_where_its_mirror_stopped(asked):
    overrides = asked("logger=wandb", "trainer.checkpoint_every=7")
    assert in_child(overrides, faults.at_step(30, signal.SIGKILL)) == -signal.SIGKILL
    folder = folder_of(overrides).path
    waited(folder)
    time.sleep(1.1)  # the next offline run is named by another second
    known = run_id(run(overrides))
    paths = waited(folder, count=2)
    assert len(paths) == 2 and all(path.name.endswith(known) for path in paths)
    last = [json.dumps(inspected(path)) for path in paths]
    assert "loss/final" in last[1] and "loss/final" not in last[0]


def test_the_key_is_in_no_file_and_a_wrong_one_harms_nothing(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    overrides = asked("logger=wandb", "logger.mirror.sync_seconds=4")
    assert run(overrides).status == "done"
    folder = folder_of(overrides).path
    waited(folder)
    assert "not sent" in (folder / "wandb.log").read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_without_the_package_the_run_goes_on(asked, monkeypatch):
    monkeypatch.setattr(wandb.sys, "executable", "/nowhere/python")
    assert run(asked("logger=wandb")).status == "done"


def test_a_sweep_is_closed_by_a_run_of_its_table_and_plots(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    report, runs = tmp_path / "reports" / "axes", tmp_path / "runs" / "axes"
    report.mkdir(parents=True)
    runs.mkdir(parents=True)
    (report / "results.csv").write_text("row,final_loss,verdict\nBase,3.5,\nRMS,3.4,better\n")
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    figure.savefig(report / "curves.png")
    plt.close(figure)
    from ablate.config import compose

    wandb.close_sweep(compose(["logger=files"]).logger, "axes", tmp_path / "runs", tmp_path / "reports")
    assert not os.listdir(runs)
    wandb.close_sweep(compose(["logger=wandb"]).logger, "axes", tmp_path / "runs", tmp_path / "reports")
    (path,) = waited(runs)
    text = json.dumps(inspected(path))
    assert "report" in text and "results" in text and "plots/curves" in text
    mirror = wandb.Mirror("ablate", None, 0)
    wandb.mirror_report(mirror, runs, "axes", report, None)  # the same results: nothing new
    assert len(list((runs / "wandb").glob("offline-run-*"))) == 1
