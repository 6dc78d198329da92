"""From ids to vectors, and back where the output layer shares the table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts, Place, View, declare


class Table(nn.Module):
    """A row of a table (V,D) for each id, times ``scale``; ``norm`` adds a norm behind it (Le Scao et al. 2022).

    ``tie`` lists which of encoder, decoder and head share one table.
    """

    def __init__(self, parts: Parts, place: Place, *, scale: float, norm: bool, tie: Sequence[str]):
        super().__init__()
        self.table = declare(
            nn.Parameter(torch.empty(parts.shape["vocab_size"], parts.d_model)),
            "table",
            fan_in=parts.shape["vocab_size"],
            fan_out=parts.d_model,
            place=place,
        )
        self.scale = scale
        self.norm = parts.norm(place) if norm else None

    def forward(self, ids: Tensor, view: View) -> Tensor:
        """(B,T) -> (B,T,D)."""
        x = nn.functional.embedding(ids, self.table)
        if self.scale != 1.0:
            x = x * self.scale
        return x if self.norm is None else self.norm(x, view)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V), for an output layer that shares the table."""
        return nn.functional.linear(hidden, self.table)
