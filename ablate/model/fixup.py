"""Fixup: training without norms, by an initialisation that depends on the depth and scalars in place of norms.

norm and plain       x -> norm -> f ------------------> +
fixup                x -> + shift -> f -> * scale ----> +
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ablate.model.contract import CROSS_ATTENTION, Parts, Place, Spec, View, declare
from ablate.model.feedforward import Dense
from ablate.model.init import Constant, Normal, Paper, Uniform, branches, first_queries
from ablate.model.residual import Branch, Plain

CUT = 0.87962566103423978  # the standard deviation of a standard normal distribution truncated at two deviations


def scalar(role: str, place: Place) -> nn.Parameter:
    """One learned number."""
    return declare(nn.Parameter(torch.empty(())), role, place=place)


class Fixup(Plain):
    """x + s f(x + b), scalars s, initially 1, and b, initially 0 (Zhang et al. 2019, https://arxiv.org/abs/1901.09321).

    Its YAML removes norms and biases and selects the feed-forward and the initialiser ``fixup``, with the table and the
    score scale of the paper's Adam runs; the optimizer is chosen separately (``optimizer=adam``).
    """

    def __init__(self, parts: Parts, place: Place):
        super().__init__(parts, place)
        self.shift, self.scale = scalar("shift", place), scalar("scale", place)

    def forward(self, x: Tensor, branch: Branch, view: View) -> Tensor:
        return x + branch(x + self.shift) * self.scale

    @staticmethod
    def end(parts: Parts, place: Place) -> nn.Module:
        """The end of a stack: x + b, in the encoder times s."""
        return FixupEnd(place)


class FixupEnd(nn.Module):
    """x + b, in the encoder times s: as released, a decoder's end has no scale."""

    token_wise = True

    def __init__(self, place: Place):
        super().__init__()
        self.shift = scalar("shift", place)
        self.scale = scalar("scale", place) if place.stack == "encoder" else None

    def forward(self, x: Tensor, view: View) -> Tensor:
        x = x + self.shift
        return x if self.scale is None else x * self.scale


class ShiftedDense(Dense):
    """The dense feed-forward with a scalar b, initially 0, between activation and second matrix: (f(x W1) + b) W2."""

    incremental = True

    def __init__(self, parts: Parts, place: Place, *, d_ff: int, gated_ratio: str):
        super().__init__(parts, place, d_ff=d_ff, gated_ratio=gated_ratio)
        self.shift = scalar("shift", place)

    def inner(self, x: Tensor) -> Tensor:
        return super().inner(x) + self.shift


class FixupInit(Paper):
    """He's initialiser (He et al. 2015), scaled down by the number L of residual branches in all stacks; outputs zero.

    Variances 2 L^(-1/3) / fan_in for queries, keys and values, 2 / (L fan_in) for the first feed-forward matrices (a
    branch of m matrices multiplies the deviation by L^(-1/(2m-2))), zero for outputs; truncated at two deviations and
    corrected for that. Cross-attention: as released it has the plain initialiser, with ``cross: true`` that of
    self-attention, as in Zhang et al.
    """

    def __init__(self, parts: Parts, *, score_scale: float, table_std: float, cross: bool):
        super().__init__(parts, score_scale=score_scale, table_std=table_std)
        self.branches, self.cross = sum(branches(parts).values()), cross

    def __call__(self, spec: Spec) -> Normal | Uniform | Constant:
        is_plain = spec.place is not None and spec.place.sublayer == CROSS_ATTENTION and not self.cross
        he = (2 / spec.fan_in) ** 0.5
        match spec.role:
            case _ if is_plain:
                return super().__call__(spec)
            case "query":
                return Normal(self._scaled(he, 1 / 6) * first_queries(spec, self.score_scale), cut=2.0)
            case "key" | "value":
                return Normal(self._scaled(he, 1 / 6), cut=2.0)
            case "ffn_in" | "gate":
                return Normal(self._scaled(he, 1 / 2), cut=2.0)
            case "output" | "ffn_out":
                return Constant(0.0)
            case _:
                return super().__call__(spec)

    def _scaled(self, std: float, power: float) -> float:
        return float(std * self.branches**-power / CUT)
