"""W&B as a mirror, read back with W&B's own command."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.config import compose, keys
from ablate.errors import UserError
from ablate.integrations import wandb, wandb_mirror, wandb_sync
from ablate.integrations.wandb_mirror import run_id
from ablate.run.folder import RunFolder
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


class Recorder:
    """Stands for the package: what it is called with, in order."""

    Settings = staticmethod(dict)

    def __init__(self, folder):
        self.calls, self.summary, self.settings = [], {}, SimpleNamespace(sync_dir=folder / "wandb")
        (folder / "wandb").mkdir(exist_ok=True)

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.calls.append((name, arguments, options))
            return self

        return call

    def of(self, name):
        return [(*arguments, options) if options else arguments for called, arguments, options in self.calls
                if called == name]  # fmt: skip


OFFLINE = {
    "mode": "offline", "project": "mine", "entity": "us",
    "settings": {"console": "off", "disable_git": True, "disable_code": True, "save_code": False, "silent": True,
                 "x_disable_stats": True, "x_transaction_log_flush_interval": 5.0},
}  # fmt: skip


@pytest.fixture
def recorder(monkeypatch, tmp_path):
    recorder = Recorder(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    return recorder


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_what_the_package_is_told_of_a_run(asked, recorder, status):
    overrides = asked("sweep=mirrored", "row=" + "long " * 20)
    folder, record = folder_of(overrides), run(overrides)
    reason = "" if status == "done" else "the loss was nan"
    record = folder.write(dataclasses.replace(record, status=status, reason=reason, tags=("norm:layernorm", "x" * 70)))
    (folder.path / "wandb").mkdir()
    assert wandb_mirror.mirror_run(wandb.Mirror("mine", "us", 0), folder.path, None) == wandb_mirror.NO_KEY
    parameters = {"total": 1000, "non_embedding": 500, "active": 1000}
    ((started,),) = recorder.of("init")
    assert started == {
        **OFFLINE, "dir": str(folder.path), "id": run_id(record), "group": "mirrored", "job_type": record.row[:64],
        "name": f"{record.row} · seed 0", "tags": ["norm:layernorm", "x" * 64, "schedule.peak:0.01"],
        "config": folder.read_config() | {"sweep": "mirrored", "row": record.row, "parameters": parameters},
    }  # fmt: skip
    assert recorder.of("define_metric") == [
        ("train/*", {"step_metric": "step"}),
        ("validation/*", {"step_metric": "step"}),
        ("first_steps/*", {"step_metric": "step"}),
    ]
    header, *lines = (line.split(",") for line in folder.metrics.read_text().splitlines())
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    told = [
        ({"step": int(row["step"])} | {f"{row['kind']}/{name}": float(row[name])
         for name in header if name not in ("step", "kind") and row[name]},)
        for row in rows
    ]  # fmt: skip
    assert recorder.of("log") == told and len(told) > 10
    loss, speed = record.loss, record.steps_per_second
    expected = {
        "status": status, "reason": record.reason, "seconds": record.seconds, "ops_paper": 1e9, "flops_per_step": 1e9,
        "tokens_per_second": record.tokens_per_second, "peak_memory_bytes": record.peak_memory_bytes,
        "data_wait_fraction": record.data_wait_fraction, "loss/early": loss.early, "loss/final": loss.final,
        "loss/early_step": 5, "loss/final_step": 40, "loss/bits_per_byte": loss.bits_per_byte,
        "loss/early_bits_per_byte": loss.early_bits_per_byte, "loss/tokens": loss.tokens, "loss/bytes": loss.bytes,
        **{f"parameters/{key}": value for key, value in parameters.items()},
        "steps_per_second/median": speed.median, "steps_per_second/p25": speed.p25, "steps_per_second/p75": speed.p75,
    }  # fmt: skip
    assert recorder.summary == expected
    assert recorder.of("finish") == [({"exit_code": 0 if status == "done" else 1},)]


@pytest.mark.parametrize(
    ("overrides", "tags"),
    [
        ([], ["schedule.peak:0.01"]),
        (["schedule.peak=3e-4", "schedule.rate_scale=2"], ["schedule.peak:0.0003", "schedule.rate_scale:2"]),
        (["optimizer=adamw"], ["schedule.peak:0.001"]),
    ],
)
def test_the_learning_rate_is_among_the_tags(overrides, tags):
    assert wandb_mirror.rate_tags(keys.plain(compose(overrides), resolve=True)) == tags


def test_a_schedule_without_a_peak_gets_no_tag():
    assert wandb_mirror.rate_tags({"schedule": {"highest": 1.0}}) == wandb_mirror.rate_tags({}) == []


def test_what_the_package_is_told_of_a_report(recorder, tmp_path):
    report, runs = tmp_path / "report", tmp_path / "runs"
    report.mkdir()
    (runs / "wandb").mkdir(parents=True)
    (report / "results.csv").write_text('row,final_loss,verdict\nBase,3.5,\n"RMS, late",3.4,better\n')
    (report / "runs.csv").write_text("row,seed\nBase,0\n")
    for name in ("b.png", "a.png"):
        (report / name).touch()
    wandb_mirror.mirror_report(wandb.Mirror("mine", "us", 0), runs, "axes", report, "one", None)
    ((started,),) = recorder.of("init")
    identity = started.pop("id")
    assert len(identity) == 16 and started == {
        **OFFLINE, "dir": str(runs), "group": "axes", "job_type": "report", "name": "axes · report", "tags": ["report"],
    }  # fmt: skip
    assert recorder.of("Table") == [
        ({"columns": ["row", "final_loss", "verdict"], "allow_mixed_types": True,
          "data": [["Base", 3.5, None], ["RMS, late", 3.4, "better"]]},),
        ({"columns": ["row", "seed"], "data": [["Base", 0.0]], "allow_mixed_types": True},),
    ]  # fmt: skip
    assert recorder.of("Image") == [(str(report / "a.png"),), (str(report / "b.png"),)]
    assert [list(row) for (row,) in recorder.of("log")] == [["results"], ["runs"], ["plots/a"], ["plots/b"]]
    assert [name for name, *_ in recorder.calls][-1] == "finish" and recorder.of("finish") == [()]
    again = len(recorder.calls)
    wandb_mirror.mirror_report(wandb.Mirror("mine", "us", 0), runs, "axes", report, "one", None)
    assert len(recorder.calls) == again  # the same results are not shown twice
    (report / "runs.csv").write_text("row,seed\nBase,1\n")
    wandb_mirror.mirror_report(wandb.Mirror("mine", "us", 0), runs, "axes", report, "two", None)
    assert len(recorder.of("init")) == 2


def test_lines_are_taken_once_they_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_mirror, "POLL_SECONDS", 0.0)
    path = tmp_path / "metrics.csv"
    written = iter(["", "step,lo", "step,loss\n1,5", "step,loss\n1,5.5\n", "step,loss\n1,5.5\n2,4.5\n3,"])
    last = []

    def has_ended():
        text = next(written)
        if text:
            path.write_text(text)
        last[:] = [text.endswith("3,")]
        return last[0]

    calls = []
    rows = wandb_mirror._rows(path, has_ended, lambda: calls.append(1))
    assert list(rows) == [{"step": "1", "loss": "5.5"}, {"step": "2", "loss": "4.5"}]
    assert len(calls) == 5  # the sync is looked after each time


def test_w_and_b_is_loaded_after_some_seconds_of_training(tmp_path, monkeypatch):
    """Not while an earlier attempt's lines may be there, which end where training goes on from a checkpoint."""
    folder, clock, ended = RunFolder(tmp_path), [0.0], []

    def sleep(seconds):
        clock[0] += seconds
        if clock[0] == 30:
            folder.progress.write_text("{}")

    monkeypatch.setattr(wandb_mirror, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    monkeypatch.setattr(wandb_mirror, "_has_ended", lambda _: clock[0] in ended)
    wandb_mirror._let_it_begin(folder)
    assert clock[0] == 30 + wandb_mirror.START_SECONDS
    clock[0], ended = 0.0, [3.0]
    wandb_mirror._let_it_begin(folder)
    assert clock[0] == 3


@pytest.mark.parametrize(
    ("seconds", "step", "loaded"), [(9, 1, False), (10, 1, True), (12, 50, False), (25, 50, True), (40, 99, True)]
)
def test_a_short_run_is_shown_at_its_end(seconds, step, loaded):
    assert wandb_mirror._is_time(seconds, {"step": step, "steps": 100}) is loaded


@pytest.mark.parametrize(("machine", "known"), [("here.example.org", True), ("there.example.org", False)])
def test_a_login_is_one_for_its_server(tmp_path, monkeypatch, machine, known):
    monkeypatch.setenv("WANDB_BASE_URL", "https://here.example.org")
    (tmp_path / "HOME" / ".netrc").write_text(f"machine {machine} login user password x")
    (tmp_path / "HOME" / ".netrc").chmod(0o600)
    import wandb as package

    package.teardown()  # it keeps what it once read of the environment
    assert wandb_sync.may_send(None) is known and wandb_sync.may_send("key")
    package.teardown()


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
    assert mirror.outcome_line(runs).startswith("W&B: not sent (written offline")
    mirror.close_sweep("axes", tmp_path / "runs", tmp_path / "reports")  # the same results, still no key: nothing new
    waited(runs, count=1)
