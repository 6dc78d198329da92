"""W&B as a mirror, read back with W&B's own command."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.config import compose
from ablate.errors import UserError
from ablate.integrations import wandb, wandb_mirror
from ablate.integrations.wandb_mirror import run_id
from tests.faults import faults
from tests.training.standin import folder_of, in_child, run

WANDB = [str(Path(sys.executable).with_name("wandb"))]
pytestmark = pytest.mark.timeout(180)


def waited(folder, count=1):
    """The offline runs under `folder`, once the mirror has ended and there are so many."""
    assert wandb.wait([folder], 90)[folder], (folder / "wandb.log").read_text()
    paths = sorted((folder / "wandb").glob("offline-run-*"))
    assert len(paths) == count
    return paths


def inspected(path):
    """What W&B's own command reads in an offline run: (summary, all records)."""

    def call(*more):
        command = [*WANDB, "leet", "inspect", *more, "--json", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True)

    return json.loads(call("--summary").stdout), [json.loads(line) for line in call().stdout.splitlines()]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run to mirror"):
        wandb_mirror.mirror_run(wandb.Mirror("ablate", None, 0), tmp_path, None)


def test_each_attempt_writes_the_whole_run(asked, monkeypatch):
    """Of a run that was stopped and goes on: from its first line, each line by itself, in the order of metrics.csv."""
    overrides, logged = asked(), []
    assert in_child(overrides, faults.at_step(20, signal.SIGTERM)) == 143
    folder = folder_of(overrides)
    recorder = SimpleNamespace(
        define_metric=lambda *_, **__: None,
        log=lambda row: logged[-1].append(row["step"]),
        summary={},
        finish=lambda exit_code: None,
    )
    monkeypatch.setattr(wandb_mirror, "_init", lambda *_, **__: recorder)
    for go_on in (lambda: None, lambda: run(overrides)):
        go_on()
        logged.append([])
        wandb_mirror.mirror_run(wandb.Mirror("ablate", None, 0), folder.path, None)
        lines = folder.metrics.read_text().splitlines()
        assert logged[-1] == [int(line.split(",")[0]) for line in lines[1:]]
    assert logged[0][-1] == 20 and logged[1][-1] == 40


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
def test_a_killed_run_is_written_to_its_end_and_its_next_attempt_whole(asked):
    overrides = asked("logger=wandb", "trainer.checkpoint_every=7")
    assert in_child(overrides, faults.at_step(30, signal.SIGKILL)) == -signal.SIGKILL
    folder = folder_of(overrides).path
    waited(folder)
    known = run_id(run(overrides))
    paths = waited(folder, count=2)
    assert len(paths) == 2 and all(path.name.endswith(known) for path in paths)
    told = [json.dumps(inspected(path)) for path in paths]
    assert "loss/final" in told[1] and "loss/final" not in told[0]


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
    assert wandb.mirror_of(compose(["logger=files"]).logger) is None
    mirror = wandb.mirror_of(compose(["logger=wandb"]).logger)
    mirror.close_sweep("axes", tmp_path / "runs", tmp_path / "reports")
    (path,) = waited(runs)
    text = json.dumps(inspected(path))
    assert "report" in text and "results" in text and "plots/curves" in text
    assert mirror.told(runs).startswith("W&B: not sent (written offline")
    mirror.close_sweep("axes", tmp_path / "runs", tmp_path / "reports")  # the same results, still no key: nothing new
    waited(runs, count=1)
