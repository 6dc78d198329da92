"""The feed-forward's non-linearity: plain ``f(h)``, or gated ``f(gate) * up``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import Parts, Place


class Plain(nn.Module):
    """f(h), elementwise."""

    gated = False

    def __init__(self, parts: Parts, place: Place, *, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


class Gated(nn.Module):
    """f(gate) * up: the gated linear units of Shazeer 2020 (https://arxiv.org/abs/2002.05202)."""

    gated = True

    def __init__(self, parts: Parts, place: Place, *, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.function(gate) * up


def relu(h: Tensor) -> Tensor:
    """max(x, 0). As a matrix: of more axes, torch stores a mask of booleans when it compiles for a CPU, and slowly so."""
    return functional.relu(h.reshape(-1, h.shape[-1])).view(h.shape)


def gelu(h: Tensor, approximate: str = "tanh") -> Tensor:
    """GELU (Hendrycks and Gimpel 2016): the tanh form, as the paper ran it, or ``approximate: none``, the exact one.

    Raises UserError for another word.
    """
    if approximate not in ("tanh", "none"):
        raise UserError(f"activation.function.approximate={approximate}: must be tanh or none")
    return functional.gelu(h, approximate=approximate)


def swish(h: Tensor) -> Tensor:
    """x sigmoid(x), also called SiLU (Ramachandran et al. 2017)."""
    return functional.silu(h)


def elu(h: Tensor) -> Tensor:
    return functional.elu(h)


def selu(h: Tensor) -> Tensor:
    return functional.selu(h)


def sigmoid(h: Tensor) -> Tensor:
    return torch.sigmoid(h)


def softplus(h: Tensor) -> Tensor:
    return functional.softplus(h)


def squared_relu(h: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021, Primer)."""
    return relu(h).square()


def identity(h: Tensor) -> Tensor:
    return h
