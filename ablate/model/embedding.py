"""From ids to vectors, and back where the output layer shares the table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ablate.errors import UserError, nearest
from ablate.model.contract import Parts, Place, declare

TIED = ("encoder", "decoder", "head")


class Table(nn.Module):
    """A row of a table (V,D) for each id, times ``scale``.

    ``tie`` lists which of encoder, decoder and head share one table; ``norm`` puts a norm behind it, each stack its
    own (Le Scao et al. 2022, https://arxiv.org/abs/2210.15424). Raises UserError for a word in ``tie`` that is none.
    """

    def __init__(self, parts: Parts, place: Place, *, scale: float, norm: bool, tie: Sequence[str]):
        super().__init__()
        for name in tie:
            if name not in TIED:
                raise UserError(f"embedding.tie: {name!r} is none of {', '.join(TIED)}{nearest(name, TIED)}")
        self.table = declare(
            nn.Parameter(torch.empty(parts.shape["vocab_size"], parts.d_model)),
            "table",
            fan_in=parts.shape["vocab_size"],
            fan_out=parts.d_model,
            place=place,
        )
        self.scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        """(B,T) -> (B,T,D)."""
        x = nn.functional.embedding(ids, self.table)
        return x if self.scale == 1.0 else x * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """(B,T,D) -> (B,T,V), for an output layer that shares the table."""
        return nn.functional.linear(hidden, self.table)
