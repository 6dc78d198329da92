"""The memory of a step, estimated without it."""

import pytest
import torch

from ablate.config import build_model, compose
from ablate.cost import meta_batch
from ablate.footprint import divisors, footprint
from tests.model.test_recomputing import Storages
from tests.model.tiny import overrides, tiny


def counted(*given, **shape):
    return footprint(compose(overrides(*given, **shape)))


def test_weights_gradients_and_the_state_of_the_optimizer():
    weights = sum(one.numel() for one in build_model(compose(overrides()), device="meta").parameters()) * 4
    assert counted("optimizer=adamw").held == pytest.approx(4 * weights, rel=0.01)
    assert 2 * weights < counted().held <= 3 * weights


def test_what_is_alive_is_what_autograd_keeps():
    """Against the storages that are there between the passes."""
    found = counted("trainer.micro_batch=2")
    model = tiny(n_layers=2)
    shapes = meta_batch(compose(overrides()))
    batch = {name: torch.ones(tensor.shape, dtype=tensor.dtype) for name, tensor in shapes.items()}
    with Storages() as storages:
        loss, _ = model.train()(batch)
    whole = storages.alive()
    assert loss.requires_grad
    assert 0.6 * whole < found.alive * len(batch["targets"]) < 1.6 * whole


def test_less_where_layers_are_computed_again():
    plain, again = (counted(f"trainer.recompute={one}", n_layers=6) for one in ("false", "true"))
    assert again.held == plain.held and again.alive < 0.5 * plain.alive


def test_it_grows_with_the_micro_batch():
    few, many = (counted(f"trainer.micro_batch={one}", batch_tokens=256) for one in (2, 16))
    assert few.alive == pytest.approx(many.alive, rel=0.05)
    assert few.of(16) - few.of(8) == pytest.approx(few.of(8) - few.held, rel=0.01)


def test_the_largest_that_fits():
    found = counted()
    assert found.largest(divisors(12), found.of(5)) == 4
    assert found.largest(divisors(12), 2 * found.of(5), scale=2.0) == 4
    assert found.largest(divisors(12), found.held) is None
