"""The feed-forward's non-linearity: plain ``f(h)``, or gated ``f(gate) * up``."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import Parts, Place


class Plain(nn.Module):
    """f(h), elementwise."""

    gated = False
    token_wise = True
    inner_options: ClassVar[dict[str, str]] = {"function": "activation.function"}

    def __init__(self, parts: Parts, place: Place, *, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h)


class Gated(nn.Module):
    """f(gate) * up: the gated linear units of Shazeer 2020 (https://arxiv.org/abs/2002.05202)."""

    gated = True
    token_wise = True
    inner_options: ClassVar[dict[str, str]] = {"function": "activation.function"}

    def __init__(self, parts: Parts, place: Place, *, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        value = self.function(gate)
        return value * up if torch.is_grad_enabled() else value.mul_(up)  # in place: one wide tensor less


def relu(h: Tensor) -> Tensor:
    """max(x, 0), on a matrix: compiled for a CPU, torch saves a slow boolean mask for a tensor of more axes."""
    return functional.relu(h.reshape(-1, h.shape[-1])).view(h.shape)


def gelu(h: Tensor, approximate: str = "tanh") -> Tensor:
    """GELU (Hendrycks and Gimpel 2016): the tanh form, as the paper ran it, or exact with ``approximate: none``.

    Raises UserError for any other value of `approximate`.
    """
    if approximate not in ("tanh", "none"):
        raise UserError(f"activation.function.approximate={approximate}: must be tanh or none")
    return functional.gelu(h, approximate=approximate)


def swish(h: Tensor) -> Tensor:
    """x sigmoid(x), also called SiLU (Ramachandran et al. 2017)."""
    return functional.silu(h)


def elu(h: Tensor) -> Tensor:
    """x if x > 0, else exp(x) - 1 (Clevert et al. 2016)."""
    return functional.elu(h)


def selu(h: Tensor) -> Tensor:
    """Scaled ELU (Klambauer et al. 2017)."""
    return functional.selu(h)


def sigmoid(h: Tensor) -> Tensor:
    """1 / (1 + exp(-x)); gated, it is the original GLU (Dauphin et al. 2017)."""
    return torch.sigmoid(h)


def softplus(h: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return functional.softplus(h)


def squared_relu(h: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021, Primer)."""
    return relu(h).square()


def identity(h: Tensor) -> Tensor:
    """x; gated, it is the bilinear layer (Mnih and Hinton 2007)."""
    return h
