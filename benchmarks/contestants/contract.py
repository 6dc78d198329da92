"""What the module of a library offers: `make(work, weights, **options)`, which returns a `Made`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

Loss = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Made:
    """A model in training mode that holds the given weights, and its loss of a batch, the mean over targets in nats."""

    model: nn.Module
    loss: Loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean loss of logits (B, T, V) and targets (B, T), for libraries that leave it to their user."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
