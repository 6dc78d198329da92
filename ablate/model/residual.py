"""How a sub-layer is added to the residual stream: ``residual(x, branch, view) -> x``, `branch` a callable x -> y."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts, Place, View, declare

Branch = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """x + f(x) (He et al. 2016); the base of every residual, with what it declares.

    ``placements``: the placements of norms that it works with, or None for all; ``reuses_norm``: whether it applies a
    norm of its own to several tensors within a step.
    """

    placements: tuple[str, ...] | None = None
    reuses_norm = False
    token_wise = True

    def __init__(self, parts: Parts, place: Place):
        super().__init__()

    def forward(self, x: Tensor, branch: Branch, view: View) -> Tensor:
        return x + branch(x)

    @staticmethod
    def end(parts: Parts, place: Place) -> nn.Module:
        """The module at a stack's end: one more norm."""
        return parts.norm(place)


class ReZero(Plain):
    """x + a f(x), one scalar a for each sub-layer, initially 0 (Bachlechner et al. 2020, https://arxiv.org/abs/2003.04887)."""

    def __init__(self, parts: Parts, place: Place, *, start: float):
        super().__init__(parts, place)
        self.weight = declare(nn.Parameter(torch.empty(())), "constant", value=start, place=place)

    def forward(self, x: Tensor, branch: Branch, view: View) -> Tensor:
        return x + branch(x) * self.weight


class LayerScale(Plain):
    """x + diag(a) f(x), one small weight for each channel (Touvron et al. 2021, https://arxiv.org/abs/2103.17239)."""

    def __init__(self, parts: Parts, place: Place, *, start: float):
        super().__init__(parts, place)
        self.weight = declare(nn.Parameter(torch.empty(parts.d_model)), "constant", value=start, place=place)

    def forward(self, x: Tensor, branch: Branch, view: View) -> Tensor:
        return x + branch(x) * self.weight


class Gated(Plain):
    """x + (1 - u) y + u c with y = f(x) and gates as in a GRU, as in Narang et al.'s Universal Transformer.

    u = sigmoid([n(x); n(y)] U), r = sigmoid([n(n(x)); n(n(y))] R), c = sigmoid([n(r x); n(y)] C), with one norm n for
    all. That the reset gate r reads inputs normed twice, and that the candidate c is a sigmoid, follows the released
    code; ``tanh: true`` gives the candidate of a GRU (Cho et al. 2014, https://arxiv.org/abs/1406.1078).
    """

    reuses_norm = True

    def __init__(self, parts: Parts, place: Place, *, tanh: bool):
        super().__init__(parts, place)
        self.norm = parts.norm(place)
        d = parts.d_model
        self.update, self.reset, self.candidate = (parts.linear(2 * d, d, "gate", place) for _ in range(3))
        self.tanh = tanh

    def forward(self, x: Tensor, branch: Branch, view: View) -> Tensor:
        y = branch(x)
        n_x, n_y = self._normed(x, view), self._normed(y, view)
        update = self.update(torch.cat((n_x, n_y), -1)).sigmoid()  # each gate (B,T,2D) -> (B,T,D)
        reset = self.reset(torch.cat((self._normed(n_x, view), self._normed(n_y, view)), -1)).sigmoid()
        candidate = self.candidate(torch.cat((self._normed(reset * x, view), n_y), -1))
        candidate = candidate.tanh() if self.tanh else candidate.sigmoid()
        return x + y + update * (candidate - y)  # x + (1 - u) y + u c

    def _normed(self, x: Tensor, view: View) -> Tensor:
        return view.clear_padding(self.norm(x, view))


class DeepNorm(Plain):
    """alpha x + f(x), followed by a norm (Wang et al. 2022, https://arxiv.org/abs/2203.00555).

    Requires post-norm and the initialiser ``deepnorm``, which its YAML selects. alpha grows with the depth of both
    stacks as in the paper's table 2.
    """

    placements = ("post",)

    def __init__(self, parts: Parts, place: Place):
        super().__init__(parts, place)
        self.alpha, _ = deepnorm_constants(parts.depths, place.stack)

    def forward(self, x: Tensor, branch: Branch, view: View) -> Tensor:
        return x * self.alpha + branch(x)


def deepnorm_constants(depths: dict[str, int], stack: str) -> tuple[float, float]:
    """DeepNorm's (alpha, beta) for one stack of a model with these depths (Wang et al. 2022, figure 2)."""
    if len(depths) == 1:
        n = depths[stack]
        return (2 * n) ** 0.25, (8 * n) ** -0.25
    n, m = depths["encoder"], depths["decoder"]
    if stack == "encoder":
        return 0.81 * (n**4 * m) ** 0.0625, 0.87 * (n**4 * m) ** -0.0625
    return (3 * m) ** 0.25, (12 * m) ** -0.25
