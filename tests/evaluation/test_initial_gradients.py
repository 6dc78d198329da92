"""The gradient at the initial values against one backward pass over all sequences at once."""

import pytest
import torch

from ablate.config import build_model, compose, merge
from ablate.evaluation.initial_gradients import NAME, InitialGradients
from tests.evaluation.test_by_position import context
from tests.evaluation.test_extrapolation import TINY

IDS = torch.randint(3, 500, (6, 8), generator=torch.Generator().manual_seed(1))
BATCH = {"decoder_ids": IDS, "targets": IDS.flip(1)}


def scored(batches, *overrides, **changes):
    given = context(batches, config=compose(merge(TINY, ["shape.n_layers=3", *overrides])), **changes)
    with torch.no_grad():
        return InitialGradients(tokens=64, seed=1).evaluate(None, given)[NAME]


@pytest.mark.parametrize("overrides", [[], ["block.placement=post", "seed=3"]])
def test_the_norm_and_that_of_each_layer(overrides):
    model = build_model(compose(merge(TINY, ["shape.n_layers=3", *overrides]))).eval()
    model.forward(BATCH)[0].backward()
    squares = {name: one.grad.square().sum().item() for name, one in model.named_parameters() if one.grad is not None}
    found = scored(
        [{name: ids[:4] for name, ids in BATCH.items()}, {name: ids[4:] for name, ids in BATCH.items()}], *overrides
    )
    assert found.value == pytest.approx(sum(squares.values()) ** 0.5, rel=1e-5) and found.items == 6
    assert found.curve.x == "layer" and found.curve.xs == (1, 2, 3)
    for layer, norm in enumerate(found.curve.ys):
        mine = sum(square for name, square in squares.items() if f".blocks.{layer}." in name)
        assert norm == pytest.approx(mine**0.5, rel=1e-4)


def test_processes_add_up():
    parts = [{name: ids[:4] for name, ids in BATCH.items()}, {name: ids[4:] for name, ids in BATCH.items()}]
    sums = [[], []]
    for kept, part in zip(sums, parts, strict=True):
        scored([part], total=lambda tensor, kept=kept: kept.append(tensor.clone()) or tensor)
    both = iter([one + other for one, other in zip(*sums, strict=True)])
    together = scored(parts[:1], total=lambda tensor: next(both))
    assert together.value == pytest.approx(scored(parts).value) and together.items == 6
