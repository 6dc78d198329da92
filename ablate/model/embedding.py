"""From ids to vectors, and back to logits if the output layer shares the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ablate.errors import UserError, nearest
from ablate.model.contract import Parts, Place, declare
from ablate.ranges import COUNT, Ranges

TIED = ("encoder", "decoder", "head")


class Embedding(nn.Module):
    """The base of every embedding: a vector for each id, times ``scale``; subclasses define `vectors` and `logits`.

    ``tie`` lists which of encoder, decoder and head share one; ``norm`` adds a norm after it, one for each stack
    (Le Scao et al. 2022, https://arxiv.org/abs/2210.15424). Raises UserError for an unknown name in ``tie``.
    """

    __call__: Callable[..., Tensor]

    token_wise = True
    offers: frozenset[str] = frozenset()  # what a head that shares it may use, besides the logits

    def __init__(self, *, scale: float, norm: bool, tie: Sequence[str]):
        super().__init__()
        for name in tie:
            if name not in TIED:
                raise UserError(f"embedding.tie: {name!r} must be one of {', '.join(TIED)}{nearest(name, TIED)}")
        self.scale = scale

    def forward(self, ids: Tensor) -> Tensor:
        """(B,T) -> (B,T,D)."""
        x = self.vectors(ids)
        return x if self.scale == 1.0 else x * self.scale

    def vectors(self, ids: Tensor) -> Tensor:
        """(B,T) -> (B,T,D), before ``scale``."""
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,V), for an output layer that shares the table."""
        raise NotImplementedError

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor] | None:
        """x (...,N) and a matrix (V,N) whose product x matrix^T the logits are; None where they are no single one."""
        return None


class Table(Embedding):
    """A row of a table (V,D) for each id."""

    def __init__(self, parts: Parts, place: Place, *, scale: float, norm: bool, tie: Sequence[str]):
        super().__init__(scale=scale, norm=norm, tie=tie)
        self.table = declare(
            nn.Parameter(torch.empty(parts.shape["vocab_size"], parts.d_model)),
            "table",
            fan_in=parts.shape["vocab_size"],
            fan_out=parts.d_model,
            place=place,
        )

    def vectors(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.table)

    def logits(self, hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, self.table)

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, self.table


class Product(nn.Module):
    """Vectors for n ids as a product of two tables, ``table`` (n,N) and ``up`` (N,D), without biases."""

    __call__: Callable[..., Tensor]

    token_wise = True

    def __init__(self, n: int, d_inner: int, d_model: int, place: Place):
        super().__init__()
        self.table, self.up = (
            declare(nn.Parameter(torch.empty(size)), "table_factor", fan_in=d_inner, fan_out=d_model, place=place)
            for size in ((n, d_inner), (d_inner, d_model))
        )

    def forward(self, ids: Tensor) -> Tensor:
        """(B,T) -> (B,T,D)."""
        vectors: Tensor = nn.functional.embedding(ids, self.table) @ self.up
        return vectors

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,n)."""
        return nn.functional.linear(*self.as_product(hidden))

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """x (...,N) and the table (n,N)."""
        return hidden @ self.up.T, self.table


class Factorized(Embedding):
    """A product of two tables, ``d_inner`` numbers for each id (ALBERT, Lan et al. 2020,
    https://arxiv.org/abs/1909.11942).

    Initially the product has the variance of a full table. Narang et al.'s "Factorized Embedding" has a full matrix of
    its own for the logits (``tie: [encoder, decoder]``), their "Factorized & shared embeddings" the product there too.
    """

    ranges: ClassVar[Ranges] = {"d_inner": COUNT}

    def __init__(self, parts: Parts, place: Place, *, d_inner: int, scale: float, norm: bool, tie: Sequence[str]):
        super().__init__(scale=scale, norm=norm, tie=tie)
        self.product = Product(parts.shape["vocab_size"], d_inner, parts.d_model, place)

    def vectors(self, ids: Tensor) -> Tensor:
        return self.product(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.product.logits(hidden)

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.product.as_product(hidden)
