"""The position-wise network: ``f(x (B,T,D), ctx) -> (B,T,D)``."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ablate.model.contract import Context, Parts, Place
from ablate.ranges import COUNT, Ranges
from ablate.ratio import ratio_of


class Dense(nn.Module):
    """f(x W1 + b1) W2 + b2, or gated: (f(x W + b) * (x V + c)) W2 + b2 with ``gated_ratio`` of the width.

    With two thirds of the width a gated network has as many parameters as a plain one (Shazeer 2020).
    Raises UserError if that ratio of the width is not a whole number.
    """

    ranges: ClassVar[Ranges] = {"d_ff": COUNT}
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, d_ff: int, gated_ratio: str):
        super().__init__()
        self.activation = parts.activation(place)
        gated = self.activation.gated
        width = ratio_of(gated_ratio, d_ff, "d_ff (feedforward.gated_ratio)", least=1) if gated else d_ff
        self.gate = parts.linear(parts.d_model, width, "gate", place) if gated else None
        self.up = parts.linear(parts.d_model, width, "ffn_in", place)
        self.down = parts.linear(width, parts.d_model, "ffn_out", place)
        self.dropout = nn.Dropout(parts.dropout)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return self.down(self.dropout(self.inner(x)))

    def inner(self, x: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,F): the activations between the matrices."""
        up = self.up(x)
        h: Tensor = self.activation(up) if self.gate is None else self.activation(self.gate(x), up)
        return h
