"""A loss that is no number ends the run, and is a result."""

import math

import pytest
import torch

from tests.faults import faults
from tests.training.standin import folder_of, in_child, run


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_run_at_its_step(asked, value):
    overrides = asked("trainer.checkpoint_every=7")
    assert in_child(overrides, faults.weights_of(18, value)) == 3
    folder = folder_of(overrides)
    found = folder.read()
    assert found.status == "diverged" and "at step 18" in found.reason and "loss" in found.reason
    assert found.step == 17 and found.loss.early > 0 and found.loss.final is None
    weights = torch.load(folder.checkpoints / "weights.pt", weights_only=True)
    assert weights["step"] == 17 and all(torch.isfinite(tensor).all() for tensor in weights["state_dict"].values())
    assert "nan" not in folder.metrics.read_text() and "inf" not in folder.metrics.read_text()
    assert folder.metrics.read_text().splitlines()[-1].startswith("17,")  # each of the first steps has its line


def test_a_divergence_is_not_tried_again(asked):
    overrides = asked()
    assert in_child(overrides, faults.weights_of(1, math.nan)) == 3
    before = folder_of(overrides).read()
    assert run(overrides) == before and before.step == 0


def test_a_held_out_loss_that_is_no_number_is_a_divergence(asked, monkeypatch):
    from ablate.evaluation import heldout

    monkeypatch.setattr(heldout, "heldout_loss", lambda *_, **__: heldout.HeldOutLoss(math.nan, None, 8, 0))
    found = run(asked())
    assert found.status == "diverged" and found.reason == "the held-out loss was nan at step 5"


def test_weights_of_a_divergence_follow_keep(asked):
    overrides = asked("keep_checkpoints=none", "trainer.checkpoint_every=3")
    assert in_child(overrides, faults.weights_of(18, math.nan)) == 3
    assert not list(folder_of(overrides).checkpoints.glob("*"))
