"""The gradients of a model with its initial values: how large the first steps are, and in which layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ablate.config import build_model
from ablate.evaluation.contract import Context, Evaluation
from ablate.model.build import Model
from ablate.model.contract import spec_of
from ablate.ranges import AMOUNT, Ranges, check
from ablate.run.score import Curve, Score

NAME = "initial_gradients"


class InitialGradients(Evaluation):
    """The Euclidean norm of the gradient of the mean held-out loss, at the values with which the run began, on `tokens`
    input tokens drawn with `seed`; without dropout and what else a model has in training alone.

    The curve is the norm of the gradient of each layer, those of a decoder after those of an encoder. In post-norm it
    is large in the last layers (Xiong et al. 2020, https://arxiv.org/abs/2002.04745). The trained model is
    not looked at.
    """

    ranges: ClassVar[Ranges] = {"tokens": AMOUNT}

    def __init__(self, *, tokens: int, seed: int):
        check(type(self), "evaluation.initial_gradients", tokens=tokens)
        self.tokens, self.seed = tokens, seed

    def evaluate(self, model: Model, context: Context) -> dict[str, Score]:
        """The score `initial_gradients`."""
        fresh = build_model(context.config).to(context.device).eval()
        sequences = torch.zeros(1, dtype=torch.float64, device=context.device)
        for batch in context.heldout(self.tokens, self.seed):
            context.check_stop()
            batch = context.on_device(batch)
            count = len(batch["targets"])
            with torch.enable_grad():
                with context.autocast():
                    loss = fresh.forward(batch)[0]
                (loss * count).backward()  # gradients add up over batches
            sequences += count
        total = context.total(sequences)
        squares = {name: context.total(_gradient(one)) / total for name, one in fresh.named_parameters()}
        squares = {name: gradient.square().sum() for name, gradient in squares.items()}
        layers = _by_layer(fresh, squares)
        return {
            NAME: Score(
                torch.stack([*squares.values()]).sum().sqrt().item(),
                "norm",
                higher_is_better=False,
                items=int(total),
                curve=Curve("layer", tuple(range(1, len(layers) + 1)), tuple(layers)) if layers else None,
            )
        }


def _gradient(parameter: Tensor) -> Tensor:
    """Its gradient, float64; zeros where the loss does not depend on it."""
    return (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).double()


def _by_layer(model: Model, squares: dict[str, Tensor]) -> list[float]:
    """The norm of each layer, by stack and depth, over the parameters of the blocks."""
    sums: dict[tuple[int, int], Tensor] = {}
    for name, parameter in model.named_parameters():
        place = spec_of(parameter).place
        if place is not None and ".blocks." in name:  # not the embedding, nor the norm at the end of a stack
            where = int(place.stack == "decoder"), place.layer
            sums[where] = sums[where] + squares[name] if where in sums else squares[name]
    return [sums[where].sqrt().item() for where in sorted(sums)]
