"""Adafactor in pieces that fit a cache gives the bits of the same steps written out for all parameters at once."""

from __future__ import annotations

import pytest
import torch

from ablate.training import adafactor
from ablate.training.adafactor import Adafactor, factored_axes

SHAPES = {
    "scalar": [()],
    "vectors": [(40,), (40,), (300,)],
    "small matrices": [(20, 16), (127, 500)],
    "matrices of one shape": [(130, 140)] * 5,
    "one wide matrix": [(128, 1500)],
    "experts": [(3, 130, 140)] * 2,
    "axes apart": [(140, 3, 130)] * 2,
    "odd": [(257, 129)] * 2 + [(129, 257)],
}
SIZES = {"usual": 1.0, "tiny": 3e-15, "large": 1e3}  # of a gradient; tiny: its square is of the order of the epsilon


def reference_step(parameters, states, step, rate):
    """One step, each parameter by itself with everything in new tensors: (RMS(p) lr / max(1, RMS(u))) u."""
    decay = 1.0 - step**-0.8
    for parameter, state in zip(parameters, states, strict=True):
        gradient = parameter.grad
        if gradient is None:
            continue
        axes = factored_axes(parameter.shape, 128)
        squares = gradient.square()
        if axes is None:
            moment = state.setdefault("square", torch.zeros_like(parameter))
            moment.copy_(moment.lerp(squares, 1.0 - decay).clamp_min(1e-30))
            update = gradient / moment.sqrt()
        else:
            first, second = axes
            squares = squares + 1e-30
            means = {"row": squares.mean(second), "column": squares.mean(first)}
            for name, mean in means.items():
                moment = state.setdefault(name, torch.zeros_like(mean))
                moment.copy_(moment.lerp(mean, 1.0 - decay))
            row = state["row"] / state["row"].mean(first, keepdim=True)
            update = gradient * row.rsqrt().unsqueeze(second) * state["column"].rsqrt().unsqueeze(first)
        root = max(1, parameter.numel()) ** 0.5
        rms = torch.linalg.vector_norm(parameter) / root
        scale = rms.clamp_min(1e-3) * -rate / (torch.linalg.vector_norm(update) / root / 1.0).clamp_min(1.0)
        parameter.data = torch.addcmul(parameter.data, update, scale)


def draw(shape, generator, size):
    """A gradient; some rows of a matrix are exactly 0, as those of words that a batch does not have."""
    gradient = torch.randn(shape, generator=generator) * size
    if gradient.dim() > 1:
        gradient[torch.rand(shape[0], generator=generator) < 0.3] = 0.0
    return gradient


@pytest.mark.parametrize("at_once", [1, 50_000])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", SHAPES)
def test_the_bits_of_the_steps_written_out(kind, size, at_once, monkeypatch):
    monkeypatch.setattr(adafactor, "AT_ONCE_CPU", at_once)
    torch.set_flush_denormal(False)  # flushed, a row of zeros beside one of 1e4 is NaN, written out or not
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) * 0.05 for shape in SHAPES[kind]]
    ours, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizer, states = Adafactor(ours), [{} for _ in theirs]
    with torch.no_grad():
        for step in range(1, 13):
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
                gradient = (
                    None if (step + index) % 7 == 0 else draw(one.shape, generator, size * (30 if step == 9 else 1))
                )
                one.grad, other.grad = gradient, None if gradient is None else gradient.clone()
            optimizer.param_groups[0]["lr"] = 0.3 / step
            optimizer.step()
            reference_step(theirs, states, step, 0.3 / step)
            for one, other, state in zip(ours, theirs, states, strict=True):
                assert torch.equal(one, other), step
                assert optimizer.state[one].keys() == state.keys()
                assert all(torch.equal(optimizer.state[one][name], state[name]) for name in state), step
                assert one.grad is None or torch.equal(one.grad, other.grad), "a step leaves the gradients as they are"


def test_mixed_shapes_in_one_group():
    """What waits to be applied together is of all shapes, and goes on over the limit."""
    generator = torch.Generator().manual_seed(1)
    starts = [torch.randn(shape, generator=generator) for shapes in SHAPES.values() for shape in shapes]
    alone, together = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizers = [Adafactor([parameter], lr=0.1) for parameter in alone], [Adafactor(together, lr=0.1)]
    for _ in range(3):
        for one, other in zip(alone, together, strict=True):
            one.grad = draw(one.shape, generator, 1.0)
            other.grad = one.grad.clone()
        for optimizer in (*optimizers[0], *optimizers[1]):
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
