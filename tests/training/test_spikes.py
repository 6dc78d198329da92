"""A step far above those before it is noticed, and skipped where that is wanted."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch

from ablate import cli
from ablate.config import compose, identity, merge
from ablate.errors import UserError
from ablate.training.spikes import LEAST, WINDOW, Spikes
from tests.config.conftest import write_plugin
from tests.faults import faults
from tests.training.standin import Batches, folder_of, in_child, result, run

__all__ = ["write_plugin"]
AT = 90
LONG = ("shape.steps=110", "trainer.checkpoint_every=20", "trainer.evaluate_every=50")


def steady(count, seed=0):
    return (5 + 0.1 * np.random.default_rng(seed).standard_normal(count)).tolist()


def taken(spikes, losses, norms=None, first=1):
    norms = norms or [1.0] * len(losses)
    return [spikes.take(step, *pair) for step, pair in enumerate(zip(losses, norms, strict=True), first)]


@pytest.mark.parametrize("many", [LEAST, 100, WINDOW, 500])
def test_the_mean_and_the_deviation_are_those_of_the_steps_before(many):
    losses, spikes = steady(many), Spikes()
    before = losses[-WINDOW:]
    just, beyond = (float(np.mean(before) + times * np.std(before)) for times in (5.99, 6.01))
    taken(spikes, [*losses, just])
    assert spikes.count == 0
    spikes = Spikes()
    taken(spikes, [*losses, beyond])
    assert (spikes.count, spikes.first_step) == (1, many + 1)
    assert spikes.largest.deviations == pytest.approx(6.01, abs=1e-6) and spikes.largest.what == "loss"


def test_there_is_none_before_enough_steps_nor_below_the_mean_nor_without_any_spread():
    spikes = Spikes()
    taken(spikes, [*steady(LEAST - 1), 100.0])
    taken(spikes := Spikes(), [*steady(WINDOW), -100.0])
    assert spikes.count == 0
    taken(spikes := Spikes(), [5.0] * 200)
    assert spikes.count == 0


@pytest.mark.parametrize("threshold", [0.01, 0.9])
def test_nothing_is_skipped_before_enough_steps_or_without_any_spread(threshold):
    """However low the threshold is set."""
    rising = np.linspace(5, 6, LEAST).tolist()
    assert not any(taken(Spikes(threshold), rising, rising)) and not any(taken(Spikes(threshold), [5.0] * 200))
    assert taken(Spikes(threshold), [*rising, 9.0], [*rising, 1.0])[-1]


def test_a_loss_that_falls_and_noise_are_none():
    for seed in range(20):
        falling = [10 * 0.98**step + loss for step, loss in enumerate(steady(1000, seed))]
        taken(spikes := Spikes(), falling, [loss * loss for loss in falling])
        assert spikes.count == 0


def test_of_the_gradient_norm_too_and_the_largest_is_kept():
    spikes = Spikes()
    taken(spikes, [*steady(100), 5.0, 9.0, 5.0], [*steady(100, 1), 50.0, 5.0, 5.0])
    assert (spikes.count, spikes.first_step) == (2, 101)
    assert (spikes.largest.step, spikes.largest.what, spikes.largest.value) == (101, "gradient norm", 50.0)
    line = spikes.news()
    assert line.startswith("spike at step 101: gradient norm 50, ") and line.endswith("(spikes so far: 2)")
    assert spikes.news() == ""


@pytest.mark.parametrize(("loss", "norm", "what"), [(9.0, 7.0, "loss"), (7.0, 9.0, "gradient norm")])
def test_of_a_step_what_rose_further_is_told_and_it_counts_once(loss, norm, what):
    spikes = Spikes()
    taken(spikes, [*steady(100), loss], [*steady(100), norm])
    assert (spikes.count, spikes.largest.what, spikes.largest.value) == (1, what, 9.0)


def test_a_spike_belongs_to_the_steps_that_those_after_it_are_compared_with():
    """So that a loss that stays where it rose to is no spike for long."""
    losses, spikes = [*steady(100), 9.0], Spikes()
    taken(spikes, losses)
    just, beyond = (float(np.mean(losses) + times * np.std(losses)) for times in (5.99, 6.01))
    assert taken(spikes, [just]) == [False] and spikes.count == 1
    taken(again := Spikes(), [*losses, beyond])
    assert again.count == 2
    taken(stays := Spikes(), [*steady(100), *[loss + 4 for loss in steady(100, 1)]])
    assert 1 <= stays.count <= 3


def test_the_largest_since_the_last_line_is_said_and_the_first_of_all_recorded():
    spikes = Spikes(6.0)
    taken(spikes, [*steady(100), 9.0, *steady(20, 1), 8.0])
    assert (spikes.count, spikes.first_step, spikes.largest.step) == (2, 101, 101)
    assert spikes.news().startswith("spike at step 101: loss 9, ")
    assert taken(spikes, [60.0], first=123) == [True] and spikes.largest.value == 60.0
    taken(spikes, steady(128, 2), first=124)
    assert taken(spikes, [7.0], first=252) == [True] and spikes.largest.value == 60.0
    assert spikes.news().startswith("spike at step 123: loss 60, ")
    assert taken(spikes, [8.0], first=253) == [True]
    line = spikes.news()
    assert line.startswith("spike at step 253: loss 8, ") and line.endswith("(spikes so far: 5, each skipped)")
    found = spikes.fields()["spikes"]
    assert (found["count"], found["skipped"], found["first_step"]) == (5, 5, 101) and found["largest"]["step"] == 123


def test_stands_where_it_stood():
    losses = [*steady(150), 7.0, *steady(50, 1), 9.0]
    whole, spikes = Spikes(), Spikes()
    taken(whole, losses)
    for step, loss in enumerate(losses, 1):
        spikes.take(step, loss, 1.0)
        again = Spikes()
        again.load_state_dict(spikes.state_dict())
        spikes = again
    assert spikes.fields() == whole.fields() != {}


def test_one_key_of_the_identity_where_it_is_set():
    assert identity(compose(["trainer.skip_spikes=null"]), "x") == identity(compose(), "x")
    assert identity(compose(["trainer.skip_spikes=6"]), "x") != identity(compose(), "x")
    with pytest.raises(UserError, match="skip_spikes"):
        compose(["trainer.skip_spikes=0"])


@pytest.fixture
def with_a_spike(asked, monkeypatch):
    """Runs whose batch of one step has a single target throughout: the gradients of all tokens point the same way."""
    make = Batches.make

    def patched(self, *key):
        batch = make(self, *key)
        if key[1] == AT - 1:
            batch["targets"] = torch.full_like(batch["targets"], 7)
        return batch

    monkeypatch.setattr(Batches, "make", patched)
    return lambda *more: merge(asked(*LONG), list(more))


def test_a_spike_is_said_and_recorded(with_a_spike):
    found = run(with_a_spike())
    spikes = found.spikes
    assert (spikes.count, spikes.skipped, spikes.first_step, spikes.largest.step) == (1, 0, AT, AT)
    folder = folder_of(with_a_spike())
    assert f"spike at step {AT}: " in folder.log.read_text()
    assert "spikes" in json.loads(folder.record.read_text()) and folder.read() == found


def test_a_steady_run_has_no_such_key(asked):
    assert "spikes" not in run(asked(*LONG)).to_json()


def test_a_skipped_step_leaves_the_weights_and_moves_on(with_a_spike, monkeypatch):
    overrides = with_a_spike("trainer.skip_spikes=6", "keep_checkpoints=all", "trainer.checkpoint_every=1")
    kept = {}
    from ablate.training import checkpoint

    save = checkpoint.AtomicCheckpointIO.save_checkpoint

    def noted(self, content, path, storage_options=None):
        kept[content["callbacks"]["RunCallback"]["progress"]["step"]] = [
            tensor.clone() for tensor in content["state_dict"].values()
        ]
        save(self, content, path, storage_options)

    monkeypatch.setattr(checkpoint.AtomicCheckpointIO, "save_checkpoint", noted)
    found = run(overrides)
    assert (found.spikes.count, found.spikes.skipped) == (1, 1) and found.step == 110
    same = {step: all(map(torch.equal, kept[step], kept[step - 1])) for step in (AT - 1, AT, AT + 1)}
    assert same == {AT - 1: False, AT: True, AT + 1: False}
    assert "each skipped" in folder_of(overrides).log.read_text()


@pytest.mark.parametrize("skip", [[], ["trainer.skip_spikes=6"]], ids=["", "skipped"])
def test_killed_around_a_spike_and_resumed(with_a_spike, skip):
    whole, killed = with_a_spike("sweep=whole", *skip), with_a_spike("sweep=killed", *skip)
    found = run(whole)
    for step in (AT - 2, AT + 2, AT + 12):
        assert in_child(killed, faults.at_step(step, signal.SIGKILL)) == -signal.SIGKILL
    again = run(killed)
    assert again.spikes == found.spikes and result(folder_of(killed)) == result(folder_of(whole))


JUMPS = """
class Jumps:
    def __init__(self, peak, at):
        self.peak, self.at = peak, at

    def __call__(self, step):
        return self.peak * (10_000 if step == self.at else 1)
"""
OPTION = f"# Far too high in one step\n_target_: {{package}}.jumps.Jumps\npeak: 1e-3\nat: {AT - 1}\n"
SWEEP = """
question: What does a rate that is far too high do?
base: [schedule=jumps]
baseline: noticed
rows: {noticed: [], skipped: [trainer.skip_spikes=6]}
seeds: {baseline: 1, rows: 1}
"""


def test_from_the_command_to_the_report(asked, write_plugin, tmp_path, capsys):
    """A step that goes far too far: the loss of the next ones is said while training, recorded, and reported."""
    write_plugin({"jumps.py": JUMPS, "conf/schedule/jumps.yaml": OPTION})
    places = [f"paths.reports={tmp_path / 'reports'}", f"paths.sweeps={tmp_path / 'sweeps'}"]
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "spiky.yaml").write_text(SWEEP)
    for row in ("noticed", "skipped"):
        overrides, skip = asked(*LONG, "sweep=spiky", f"row={row}", "seed=0", *places), row == "skipped"
        assert cli.run(["train", *overrides]) == 0
        assert f"spike at step {AT + 1}: " in capsys.readouterr().out
        content = json.loads(folder_of(overrides).record.read_text())
        found = content["spikes"]
        assert content["status"] == "done" and found["count"] > 0 and found["first_step"] == AT + 1
        assert found["skipped"] == (found["count"] if skip else 0)
        log = folder_of(overrides).log.read_text()
        assert f"spike at step {AT + 1}: " in log and ("each skipped)" in log) == bool(skip)
    assert cli.run(["report", "spiky", *places, f"paths.runs={tmp_path / 'runs'}"]) == 0
    (report,) = (tmp_path / "reports").glob("spiky/report.md")
    said = [line for line in report.read_text().splitlines() if "of loss or gradient norm while training" in line]
    assert len(said) == 2 and "**noticed**" in said[0] and "**skipped**" in said[1]
    assert "skipped" not in said[0].partition("**noticed**")[2] and said[1].endswith(f"{found['count']} skipped")
