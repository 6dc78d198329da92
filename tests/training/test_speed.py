"""The short run that the timing pass takes of a row."""

import os
import signal

import pytest

from ablate.config import compose
from ablate.training import run as train
from ablate.training.progress import StepTimer


@pytest.fixture
def trial(asked, tmp_path):
    """Measures a tiny run; returns the speeds and the files that it left."""

    def measured(*overrides, seconds=0.2, steps=100000):
        overrides = asked(f"shape.steps={steps}", *overrides)
        speeds = train.measure(compose(overrides), tmp_path / "scratch", seconds)
        return speeds, {path.name for path in (tmp_path / "scratch").rglob("*")}

    return measured


def test_it_trains_and_stops_after_the_seconds_it_is_given(trial, monkeypatch):
    steps, durations = [], []
    tick = StepTimer.tick

    def counted(self, wait):
        steps.append(tick(self, wait))
        durations[:] = self.durations
        return steps[-1]

    monkeypatch.setattr(StepTimer, "tick", counted)
    speeds, _ = trial(seconds=0.3)
    assert 0 < speeds["p25"] <= speeds["median"] <= speeds["p75"]
    assert speeds["median"] == pytest.approx(1 / sorted(durations)[len(durations) // 2], rel=0.2)
    assert 10 <= len(durations) < len(steps)  # the warm-up does not count
    assert sum(durations) >= 0.3 - 1e-9  # and no step more, but for one that has begun when that is seen
    assert len(durations) <= 11 or sum(durations[:-2]) < 0.3


def test_some_steps_count_however_long_they_take(trial, monkeypatch):
    counts = []
    tick = StepTimer.tick
    monkeypatch.setattr(StepTimer, "tick", lambda self, wait: (tick(self, wait), counts.append(len(self.durations)))[0])
    trial(seconds=0.0)
    assert counts[-1] in (10, 11)


def test_it_neither_evaluates_nor_saves_but_logs(trial, monkeypatch):
    from ablate.training.scoring import Scoring

    monkeypatch.setattr(Scoring, "context", lambda *args: pytest.fail("it evaluates"))
    _, files = trial("trainer.log_every=5")
    assert {"metrics.csv", "progress.json"} <= files
    assert not any(name.endswith(".pt") or name == "record.json" for name in files)


def test_a_signal_ends_it_early(trial, monkeypatch):
    ticks, tick = [], StepTimer.tick

    def signalled(self, wait):
        ticks.append(wait)
        if len(ticks) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return tick(self, wait)

    monkeypatch.setattr(StepTimer, "tick", signalled)
    trial(seconds=1e9)
    assert len(ticks) in (5, 6)
