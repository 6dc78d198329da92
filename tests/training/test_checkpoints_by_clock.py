"""Checkpoints by the clock, where `trainer.checkpoint_every` names no steps."""

import signal

import pytest

from ablate.training import callback
from ablate.training.callback import RunCallback
from tests.faults import faults
from tests.training.standin import folder_of, in_child, result, run


@pytest.fixture
def saves(monkeypatch):
    """The steps at which the run is saved."""
    steps, save = [], RunCallback.save

    def noted(self, trainer):
        steps.append(self.progress.step)
        save(self, trainer)

    monkeypatch.setattr(RunCallback, "save", noted)
    return steps


def test_a_short_run_is_saved_at_no_step_before_its_last(asked, saves):
    assert run(asked()).status == "done"
    assert not [step for step in saves if step < 40]


def test_after_so_many_seconds_it_is_saved_and_goes_on_from_there(asked, monkeypatch):
    whole, overrides = asked("sweep=whole"), asked()
    run(whole)
    monkeypatch.setattr(callback, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(callback, "CHECKPOINT_SHARE", 1e9)
    assert in_child(overrides, faults.at_step(20, signal.SIGKILL)) == -signal.SIGKILL
    folder = folder_of(overrides)
    newest = max(int(path.stem.removeprefix("step-")) for path in folder.checkpoints.glob("*.ckpt"))
    assert 15 <= newest < 20
    assert run(overrides).status == "done" and f"resumed at step {newest}" in folder.log.read_text()
    assert result(folder) == result(folder_of(whole))


def test_what_saving_takes_bounds_how_often_it_is_done(asked, saves, monkeypatch):
    monkeypatch.setattr(callback, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(callback, "CHECKPOINT_SHARE", 1e-9)
    assert run(asked()).status == "done"
    assert len([step for step in saves if step < 40]) == 1


def test_where_steps_are_named_the_clock_does_not_count(asked, saves, monkeypatch):
    monkeypatch.setattr(callback, "CHECKPOINT_SECONDS", 0.0)
    assert run(asked("trainer.checkpoint_every=15")).status == "done"
    assert [step for step in saves if step < 40] == [15, 30]
