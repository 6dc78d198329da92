"""The loss beyond the training length: against numbers by hand, and against real models read in one pass."""

import numpy as np
import pytest
import torch

from ablate.config import build_model, compose, merge
from ablate.errors import UserError
from ablate.evaluation.build import build
from ablate.evaluation.extrapolation import AT, BEYOND, Extrapolation
from tests.evaluation.test_by_position import context

TINY = [
    "topology=causal_decoder", "shape.d_model=16", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=8",
    "shape.d_ff=16", "shape.vocab_size=640", "shape.length=8",
]  # fmt: skip


class Given:
    """Gives the losses of its batch, and reads no more than `longest` positions."""

    def __init__(self, losses, longest=10**6):
        self.losses, self.longest = losses, longest

    def topology(self, batch):
        if batch["decoder_ids"].shape[1] > self.longest:
            raise UserError(f"longer than {self.longest}")

    def forward(self, batch):
        self.topology(batch)
        rows = batch["targets"][:, 0]
        return torch.tensor(0.0), self.losses[rows, : batch["targets"].shape[1]]


def batches_of(rows, length, parts=1):
    ids = torch.arange(rows)[:, None].expand(rows, length)
    return [{"decoder_ids": part, "targets": part} for part in ids.chunk(parts)]


def scores(model, batches, factor=2, stretches=2, overrides=(), **changes):
    asked = []
    given = context(batches, config=compose([*TINY, *overrides]), **changes)
    object.__setattr__(given, "heldout", lambda *drawn: asked.append(drawn) or batches)
    found = Extrapolation(factor=factor, stretches=stretches, tokens=64, seed=7).evaluate(model, given)
    assert asked == [(64, 7, factor * given.config.objective.length)]
    return found


def test_by_hand():
    """Two stretches of four positions in each of two training lengths of 8."""
    losses = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
    found = scores(Given(losses), batches_of(5, 16, parts=2))
    by_stretch = losses.double().numpy().reshape(5, 4, 4).mean(2)  # (sequences, stretches)
    assert found[AT].curve.x == "position" and found[AT].curve.xs == (4, 8, 12, 16)
    assert found[AT].curve.ys == pytest.approx(by_stretch.mean(0), rel=1e-6)
    assert found[AT].value == pytest.approx(by_stretch[:, 1].mean(), rel=1e-6) and found[AT].items == 20
    beyond = by_stretch[:, 3] - by_stretch[:, 1]
    assert found[BEYOND].value == pytest.approx(beyond.mean(), rel=1e-6) and found[BEYOND].items == 5
    assert found[BEYOND].standard_error == pytest.approx(beyond.std(ddof=1) / np.sqrt(5), rel=1e-5)
    assert found[AT].source == {"training_length": 8, "read_length": 16}
    assert found[AT].exploratory and not found[BEYOND].exploratory


@pytest.mark.parametrize(("longest", "read"), [(8, 8), (11, 8), (12, 12), (15, 12)])
def test_where_a_model_ends_the_curve_ends_and_the_source_says_why(longest, read):
    losses = torch.rand(5, 16, generator=torch.Generator().manual_seed(0))
    found = scores(Given(losses, longest), batches_of(5, 16))
    assert list(found) == [AT]
    assert found[AT].source == {"training_length": 8, "read_length": read, "ended": f"longer than {longest}"}
    assert found[AT].curve.xs == tuple(range(4, read + 1, 4))
    whole = scores(Given(losses), batches_of(5, 16))
    assert found[AT].value == whole[AT].value and found[AT].curve.ys == whole[AT].curve.ys[: read // 4]


def test_processes_add_up():
    losses, sums = torch.rand(5, 16, generator=torch.Generator().manual_seed(0)), []
    parts = batches_of(5, 16, parts=2)
    for part in parts:
        scores(Given(losses), [part], total=lambda tensor: sums.append(tensor.clone()) or tensor)
    together = scores(Given(losses), parts[:1], total=lambda tensor: sum(sums))
    assert together == scores(Given(losses), parts)


@pytest.mark.parametrize("position", ["none", "sinusoidal", "relative_bias", "rope", "alibi", "learned"])
def test_up_to_the_training_length_a_model_has_the_loss_of_short_sequences(position):
    """A causal model does not see what comes later; learned positions end at their table."""
    overrides = [f"position={position}"]
    model = build_model(compose([*TINY, *overrides]))
    ids = torch.randint(3, 500, (6, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = scores(model, [{"decoder_ids": ids, "targets": ids}], factor=8, stretches=4, overrides=overrides)
        short = model.forward({"decoder_ids": ids[:, :8], "targets": ids[:, :8]})[1]
    assert found[AT].curve.ys[:4] == pytest.approx(short.reshape(6, 4, 2).mean((0, 2)).tolist(), rel=1e-5)
    if position == "learned":
        assert found[AT].curve.xs == (2, 4, 6, 8) and BEYOND not in found
        assert found[AT].source["ended"] == "a sequence of 10 tokens is longer than position.max_length=8"
    else:
        assert found[AT].curve.xs == tuple(range(2, 65, 2)) and found[BEYOND].items == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["topology=encoder_decoder"], "token by token; choose topology=causal_decoder, or leave the evaluation out"),
        (["data.document_mask=true"], "set data.document_mask=false"),
        (["evaluation.extrapolation.stretches=3"], r"stretches=3 does not divide objective\.length=8"),
        (["evaluation.extrapolation.factor=1"], r"extrapolation\.factor=1: must be a whole number, 2 or more"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_training(overrides, message):
    with pytest.raises(UserError, match=message):
        build(compose(merge([*TINY, "evaluation=[heldout,extrapolation]"], overrides)))


def test_the_options_build():
    made = build(compose([*TINY, "evaluation=[heldout,extrapolation,target_accuracy]"]))
    assert isinstance(made["extrapolation"], Extrapolation)
