"""What is due between steps: when, and how often."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from types import SimpleNamespace

import pytest

from ablate.evaluation.contract import StopRequested
from ablate.run.folder import RunFolder
from ablate.run.score import Score
from ablate.training import callback, metrics
from ablate.training.callback import RunCallback
from ablate.training.interruption import Interruption
from ablate.training.progress import Agenda, Progress, StepTimer
from ablate.training.speed import SpeedTrial
from tests.training.standin import run


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch, *modules):
        self.now = 0.0
        for module in modules:
            monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def make(path, kind=RunCallback, **agenda):
    due = {"steps": 100, "early_step": 50, "log_every": 10, "evaluate_every": None, "checkpoint_every": None}
    return kind(
        RunFolder(path), Agenda(**due | agenda), Progress(), Interruption(), lambda stop: {}, lambda stop: None, print
    )


def saves(asked, monkeypatch, *overrides):
    """The steps at which a run of 40 steps writes a checkpoint."""
    steps = []
    save = RunCallback.save

    def noted(self, trainer):
        if self.saved_step != self.progress.step:
            steps.append(self.progress.step)
        save(self, trainer)

    with monkeypatch.context() as patched:
        patched.setattr(RunCallback, "save", noted)
        assert run(asked(*overrides)).status == "done"
    return steps


def test_checkpoints_by_time_where_no_number_of_steps_is_given(asked, monkeypatch):
    assert saves(asked, monkeypatch, "row=slow") == []  # it takes a second
    monkeypatch.setattr(callback, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(callback, "CHECKPOINT_SHARE", 1e9)
    assert saves(asked, monkeypatch, "row=often") == list(range(1, 40))
    assert saves(asked, monkeypatch, "row=by_steps", "trainer.checkpoint_every=16") == [16, 32]


@pytest.mark.parametrize(("seconds", "wait"), [(0.1, 60.0), (1.2, 60.0), (3.0, 150.0)])
def test_checkpoints_by_time_take_a_fiftieth_of_it_at_most(tmp_path, monkeypatch, seconds, wait):
    one = make(tmp_path)
    clock = Clock(monkeypatch, callback)
    clock.now = 1000.0

    def save_checkpoint(path):
        clock.now += seconds

    one.progress.step = 7
    one.save(SimpleNamespace(save_checkpoint=save_checkpoint))
    assert one.next_save == pytest.approx(1000.0 + seconds + wait)


def test_a_step_is_saved_once(tmp_path):
    one, paths = make(tmp_path), []
    for one.progress.step in (7, 7, 8):
        one.save(SimpleNamespace(save_checkpoint=paths.append))
    assert [path.name for path in paths] == ["step-00000007.ckpt", "step-00000008.ckpt"]


def test_a_pause_is_asked_for_when_something_is_due(tmp_path, monkeypatch):
    """(stop, pause): for the heartbeat, or for a checkpoint by time; by the main process alone."""
    one, other = make(tmp_path), make(tmp_path)
    other.is_main = False
    clock = Clock(monkeypatch, callback)
    for each in (one, other):
        each.heartbeat.next, each.next_save = 10.0, 20.0
    asked_for = []
    for clock.now, one.heartbeat.next in ((9.9, 10.0), (10.0, 10.0), (19.9, 30.0), (20.0, 30.0)):
        asked_for.append(one._stop_or_pause_requests())
        assert other._stop_or_pause_requests() == (False, False)
    assert asked_for == [(False, False), (False, True), (False, False), (False, True)]
    one.interruption.signal = other.interruption.signal = 15
    assert one._stop_or_pause_requests() == (True, True) and other._stop_or_pause_requests() == (True, False)


@pytest.mark.parametrize("of_main", [True, False])
def test_several_processes_save_by_the_clock_of_the_main_one(tmp_path, of_main):
    one, asked = make(tmp_path), []
    strategy = SimpleNamespace(broadcast=lambda due: asked.append(due) or of_main)
    one.next_save = 0.0
    assert one._agreed_save(SimpleNamespace(world_size=2, strategy=strategy)) is of_main and asked == [True]
    assert one._agreed_save(SimpleNamespace(world_size=1, strategy=None))


def test_a_speed_trial_ends_with_its_time_and_pauses_for_the_heartbeat_alone(tmp_path, monkeypatch):
    one = make(tmp_path, kind=functools.partial(SpeedTrial, seconds=5.0))
    clock = Clock(monkeypatch, callback)
    timer = one.progress.timer
    one.heartbeat.next, one.next_save = 1000.0, 0.0  # it saves nothing

    def at(now):
        clock.now = timer.last = now  # a step has just ended

    at(100.0)
    assert one._stop_or_pause_requests() == (False, False)  # its time begins with the first step that counts
    timer.durations.extend([0.4] * 9)
    at(105.0)
    assert one._stop_or_pause_requests() == (False, False)  # fewer than 10 steps
    timer.durations.append(0.4)
    at(104.9)
    assert one._stop_or_pause_requests() == (False, False)
    at(105.0)
    assert one._stop_or_pause_requests() == (True, False)
    at(1000.0)
    assert one._stop_or_pause_requests() == (True, True)
    one.is_main = False
    assert one._stop_or_pause_requests() == (True, False)


@pytest.mark.parametrize(("steps", "warm_up"), [(1, 1), (19, 1), (20, 2), (40, 4), (100, 10), (5000, 10)])
def test_a_tenth_of_the_steps_is_warm_up_ten_at_most(tmp_path, steps, warm_up):
    one = make(tmp_path, steps=steps)
    (tmp_path / "checkpoints").mkdir()
    with one.interruption:
        one.on_train_start(None, callback.Training.__new__(callback.Training))
    assert one.progress.timer.warm_up == warm_up


def test_the_heartbeat_is_told_whole_and_about_once_a_second(tmp_path, monkeypatch):
    path, times = tmp_path / "progress.json", {"monotonic": 100.0, "time": 1.8e9, "perf_counter": 7.0}
    for name in times:
        monkeypatch.setattr(metrics.time, name, lambda name=name: times[name])
    heartbeat = metrics.Heartbeat(path, 40)
    times.update(monotonic=102.5, time=1.8e9 + 2.5, perf_counter=9.5)
    heartbeat.beat(7, 5.25, "training")
    beat = {"step": 7, "steps": 40, "loss": 5.25, "phase": "training", "pid": os.getpid()}
    assert json.loads(path.read_text()) == {**beat, "time": 1.8e9 + 2.5, "elapsed": 2.5}
    assert heartbeat.next == 9.5 + metrics.BEAT_SECONDS == 10.5
    assert [one.name for one in tmp_path.iterdir()] == ["progress.json"]


def test_what_is_kept_and_said_of_a_held_out_loss(tmp_path, capsys):
    """Bits per byte, where the targets stand for text."""
    one = make(tmp_path)
    one.metrics.begin()
    loss = Score(4.5, "nats a token", higher_is_better=False, items=300)
    for step, more in (
        (20, {}),
        (40, {"bits_per_byte": Score(2.25, "bits a byte", higher_is_better=False, items=900)}),
    ):
        one.progress.step = step
        one.evaluate = lambda stop, more=more: {"loss": loss, **more}
        assert one._evaluate(step)
    assert one.losses == {
        "20": {"loss": 4.5, "bits_per_byte": None, "tokens": 300, "bytes": 0},
        "40": {"loss": 4.5, "bits_per_byte": 2.25, "tokens": 300, "bytes": 900},
    }
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    assert rows[1:] == [
        ["20", "0.0", "4.5", "", "", "validation", ""],
        ["40", "0.0", "4.5", "", "", "validation", "2.25"],
    ]
    assert capsys.readouterr().out.splitlines() == [
        f"step {step}/100  held-out loss 4.5000 nats a token" for step in (20, 40)
    ]
    one.progress.step = 60
    one.evaluate = lambda stop: {"loss": dataclasses.replace(loss, value=math.nan)}
    assert one._evaluate(60) and one.progress.diverged == "the held-out loss was nan at step 60"
    assert "60" not in one.losses and (tmp_path / "metrics.csv").read_text().count("\n") == 3

    def stopped(stop):
        raise StopRequested

    one.evaluate = stopped
    assert not one._evaluate(80) and "80" not in one.losses
    assert json.loads((tmp_path / "progress.json").read_text())["phase"] == "evaluating"


def test_until_the_first_line_of_metrics_the_loss_shown_is_the_mean_so_far(tmp_path):
    one = make(tmp_path)
    one.progress.take(6.0, 1.0, 0.1, 0.0)
    one.progress.take(5.0, 1.0, 0.1, 0.0)
    assert one._shown_loss() == 5.5
    one.loss = 4.0
    assert one._shown_loss() == 4.0


def test_steps_behind_the_warm_up_count(asked, monkeypatch):
    timers = []
    start = StepTimer.start
    monkeypatch.setattr(StepTimer, "start", lambda self, warm_up: (timers.append(self), start(self, warm_up)))
    run(asked())
    assert len(timers[0].durations) == len(timers[0].waits) == 36  # of 40, without the first tenth
