"""Six training steps of the authors' library: model, loss, optimizer and schedule together."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.config import build_model, compose, fill
from tests.golden.names import GOLDEN, TOY, Golden, oriented
from tests.model.test_golden import ROWS

TRAJECTORIES = {
    "trajectory_vanilla_adafactor": ("vanilla", []),
    "trajectory_rezero_rms_norm_adam": ("rezero_rms_norm", ["optimizer=adam", "schedule.warmup_steps=4"]),
}


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectory(name):
    row, overrides = TRAJECTORIES[name]
    expected, golden = np.load(GOLDEN / f"{name}.npz"), Golden(row)
    cfg = compose([*TOY, *ROWS[row], *overrides])
    model = build_model(cfg).train()
    golden.load(model)
    schedule, optimizer = fill(cfg, "schedule"), fill(cfg, "optimizer")(model.parameters())

    losses = []
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.zero_grad()
        loss, _ = model(golden.batch(("plain", "packed")[step % 2]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    np.testing.assert_allclose(losses, expected["loss_before_each_step"], atol=2e-5)
    for ours, parameter in model.named_parameters():
        theirs = golden.name_of(ours)
        final = oriented(expected[f"final/{theirs}"], theirs, parameter)
        np.testing.assert_allclose(parameter.detach().numpy(), final, atol=1e-5, err_msg=ours)
