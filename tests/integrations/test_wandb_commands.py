"""What commands say of sending, at their end: one line, and the command that sends what is missing."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.cli import report as report_command
from ablate.cli import train as train_command
from ablate.integrations import wandb
from tests.integrations.wandb_service import REJECTING
from tests.sweep.conftest import place
from tests.training.standin import folder_of

pytestmark = pytest.mark.timeout(180)
__all__ = ["place"]
MIRROR = wandb.Mirror("ablate", None, 60)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A machine that is busy with other tests takes its time to start W&B."""
    monkeypatch.setattr(wandb.wait, "__defaults__", (60.0,))


def mirrored(folder, problem=None):
    """A folder with a mirror that has ended, or works still."""
    (folder / "wandb").mkdir(parents=True)
    (folder / wandb.LOG).touch()
    if problem is not None:
        wandb.write_problem(folder, problem)
    return folder


def test_train_says_whether_the_run_was_sent(asked, service, capsys):
    assert train_command.run(asked("logger=wandb")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "W&B: sent"
    service.mode = REJECTING
    overrides = asked("logger=wandb", "seed=1", "logger.mirror.sync_seconds=5")
    assert train_command.run(overrides) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("W&B: not sent (") and line.endswith(
        f"`wandb sync {folder_of(overrides).path}/wandb` sends it"
    )


def test_a_sweep_and_each_report_send_the_report(place, service, capsys):
    place.behave()
    code, said = place.drive("logger=wandb", report=True)
    assert code == 0 and said.splitlines()[-1] == "try: W&B: sent"
    (shown,) = service.runs.values()
    assert shown.told("groupName") == "try" and len(service.artifacts) > 1
    upserts = len(shown.upserts)
    assert report_command.run(["try", *place.overrides]) == 0  # the same results
    assert capsys.readouterr().out.splitlines()[-1] == "W&B: sent" and len(shown.upserts) == upserts
    place.write((place.folder / "sweeps" / "try.yaml").read_text().replace("rows: 1", "rows: 2"))
    place.drive("logger=wandb")
    assert report_command.run(["try", *place.overrides]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "W&B: sent" and len(shown.upserts) > upserts
    assert len(service.runs) == 1


def test_a_folder_of_runs_sends_nothing_to_the_account_it_names(place, service, capsys, monkeypatch):
    place.behave()
    place.drive("logger=wandb", "logger.mirror.entity=stranger")
    assert report_command.run(["try", *place.overrides]) == 0
    assert "W&B: not sent; logger=wandb logger.mirror.entity=stranger sends it" in capsys.readouterr().out
    assert not service.requests
    monkeypatch.setattr(wandb.Mirror, "close_sweep", lambda *_: service.requests.append("asked for"))
    report_command.run(["try", *place.overrides, "logger=wandb", "logger.mirror.entity=stranger"])
    monkeypatch.setenv("WANDB_ENTITY", "stranger")
    report_command.run(["try", *place.overrides])
    assert service.requests == ["asked for"] * 2


def test_a_sweep_counts_what_was_not_sent(tmp_path):
    sweep = tmp_path / "a b"
    runs = [mirrored(sweep / "row" / f"seed-{seed}", problem) for seed, problem in enumerate(["", "no route", ""])]
    mirrored(sweep, "")
    plain = sweep / "row" / "seed-9"
    plain.mkdir()
    line = MIRROR.outcome_line(sweep, [*runs, plain])
    command = f"`wandb sync '{sweep}/'*/seed-*/wandb '{sweep}/wandb'`"
    assert line == f"W&B: 1 of 4 runs not sent (no route); {command} sends them"
    wandb.write_problem(runs[1], "")
    assert MIRROR.outcome_line(sweep, runs) == "W&B: sent"
    assert MIRROR.outcome_line(plain) == ""


def test_a_mirror_that_takes_long_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb.wait, "__defaults__", (wandb.TELL_SECONDS,))
    folder, waited = mirrored(tmp_path / "run"), []
    clock = SimpleNamespace(monotonic=lambda: sum(waited), time=time.time, sleep=waited.append)
    monkeypatch.setattr(wandb, "time", clock)
    line = MIRROR.outcome_line(folder)
    assert sum(waited) == pytest.approx(10, abs=0.2)
    assert line.startswith("W&B: not sent yet; that goes on for 60 s at most, then `wandb sync ")


def test_a_mirror_that_was_killed_is_not_waited_for(tmp_path, monkeypatch):
    folder = mirrored(tmp_path / "run")
    monkeypatch.setattr(wandb, "START_SECONDS", 0.0)
    clock = SimpleNamespace(monotonic=time.monotonic, time=time.time, sleep=lambda _: pytest.fail("it waits"))
    monkeypatch.setattr(wandb, "time", clock)
    assert "(the process that sends was killed)" in MIRROR.outcome_line(folder)


def test_a_log_that_is_a_link_is_left_alone(tmp_path, capsys):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    Path(folder / wandb.LOG).symlink_to(precious)
    MIRROR.follow(folder)
    assert "not mirrored" in capsys.readouterr().out and precious.read_text() == "precious"
