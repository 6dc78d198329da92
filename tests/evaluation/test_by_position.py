"""The held-out loss by position against the same numbers computed by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from ablate.config import compose
from ablate.errors import UserError
from ablate.evaluation.by_position import NAME, LossByPosition
from ablate.evaluation.contract import Context, StopRequested
from ablate.evaluation.heldout import heldout_loss

LOSSES = torch.tensor([[1.0, 2.0, 3.0, 4.0, 8.0], [3.0, 2.0, 1.0, 0.0, 2.0], [5.0, 5.0, 5.0, 6.0, 7.0]])
WEIGHTS = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0], [2.0, 1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])


class Given(torch.nn.Module):
    """Gives the losses that its batch has."""

    def forward(self, batch):
        return torch.tensor(0.0), batch["losses"]


def batch(rows, weights=None):
    found = {"losses": LOSSES[rows], "targets": torch.zeros_like(LOSSES[rows], dtype=torch.long)}
    return found if weights is None else {**found, "weights": weights[rows]}


def context(batches, **changes):
    from contextlib import nullcontext

    made = Context(
        config=compose(), corpus=None, heldout=lambda *drawn: batches, device=torch.device("cpu"), rank=0,
        world_size=1, precision="fp32", autocast=nullcontext, seed=0, folder=None, stop=lambda: False,
        total=lambda sums: sums,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def scored(batches, bins, **changes):
    evaluation = LossByPosition(bins=bins, tokens=64, seed=1)
    return evaluation.evaluate(Given(), context(batches, **changes))[NAME]


def test_by_hand():
    """Two bins of five positions: 0 to 2 and 3 to 4."""
    found = scored([batch([0, 1]), batch([2])], 2)
    assert found.curve.x == "position" and found.curve.xs == (3, 5)
    assert found.curve.ys == pytest.approx([27 / 9, 27 / 6]) and found.value == pytest.approx(4.5)
    assert found.items == 6 and found.unit == "nats a token" and found.higher_is_better is False
    means = np.array([6.0, 1.0, 6.5])  # of each sequence's last two positions
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(3))


def test_targets_that_do_not_count_are_left_out():
    found = scored([batch([0, 1, 2], WEIGHTS)], 2)
    assert found.curve.ys == pytest.approx([(6 + 5 + 15) / 8, (4 + 2 + 13) / 5]) and found.items == 5
    n, c = np.array([4.0, 2.0, 13.0]), np.array([1.0, 2.0, 2.0])
    residuals = n - n.sum() / c.sum() * c
    assert found.standard_error == pytest.approx(math.sqrt(3 / 2 * (residuals**2).sum()) / c.sum())


def test_the_error_is_over_the_sequences_that_have_targets_there():
    """Not over those that have none in the last bin."""
    weights = torch.ones(3, 5)
    weights[0, 3:] = 0.0
    found = scored([batch([0, 1, 2], weights)], 2)
    means = np.array([1.0, 6.5])
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(2)) and found.items == 4


def test_bins_add_up_to_the_held_out_loss():
    batches = [batch([0, 1], WEIGHTS), batch([2], WEIGHTS)]
    whole = heldout_loss(Given(), batches, torch.zeros(1, dtype=torch.long), torch.device("cpu"))
    found = scored(batches, 5)
    counts = (WEIGHTS > 0).sum(0).numpy()
    assert np.average(found.curve.ys, weights=counts) == pytest.approx(whole.loss)
    assert scored(batches, 1).value == pytest.approx(whole.loss) and counts.sum() == whole.tokens


def test_stretches_without_targets_are_left_out():
    weights = torch.tensor([[0.0, 1.0, 1.0, 0.0, 0.0]] * 3)
    found = scored([batch([0, 1, 2], weights)], 5)
    assert found.curve.xs == (2, 3) and found.value == pytest.approx(3.0) and found.items == 3


def test_of_one_sequence_there_is_no_standard_error():
    assert scored([batch([0])], 2).standard_error is None


def test_processes_add_up():
    parts = [[batch([0, 1], WEIGHTS)], [batch([2], WEIGHTS)]]
    sums = []
    for part in parts:
        scored(part, 2, total=lambda tensor: sums.append(tensor.clone()) or tensor)
    together = scored(parts[0], 2, total=lambda tensor: sum(sums))
    assert together == scored([*parts[0], *parts[1]], 2)


def test_more_bins_than_positions_are_refused():
    with pytest.raises(UserError, match=r"evaluation\.by_position\.bins=6: the targets have no more than 5 positions"):
        scored([batch([0])], 6)


def test_a_stop_request_is_honoured():
    with pytest.raises(StopRequested):
        scored([batch([0])], 2, stop=lambda: True)
