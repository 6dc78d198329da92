"""From ids to vectors, and back to logits if the output layer shares the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ablate.errors import UserError, nearest
from ablate.model.contract import Linear, Parts, Place, View, declare
from ablate.ranges import COUNT, AddedKeys, Ranges, Relations, only_with, whole

TIED = ("encoder", "decoder", "head")


class Embedding(nn.Module):
    """The base of every embedding: a vector for each id, times ``scale``; subclasses define `vectors` and `logits`.

    ``tie`` lists which of encoder, decoder and head share one; ``norm`` adds a norm after it, one for each stack
    (Le Scao et al. 2022, https://arxiv.org/abs/2210.15424), with ``norm_of_sum`` behind what is added as well: learned
    or sinusoidal positions, and one of ``token_types`` vectors for each token (BERT, Devlin et al. 2019,
    https://arxiv.org/abs/1810.04805). Norm, positions and token types are made by the tower that has this embedding.
    Raises UserError for an unknown name in ``tie``.
    """

    __call__: Callable[..., Tensor]

    ranges: ClassVar[Ranges] = {"token_types": whole(0, 1_000_000)}
    relations: ClassVar[Relations] = {"norm_of_sum": only_with("norm")}
    added_keys: ClassVar[AddedKeys] = {"norm_of_sum": False, "token_types": 0}
    token_wise = True
    offers: frozenset[str] = frozenset()  # what a head that shares it may use, besides the logits
    sum_width: int | None = None  # of the vectors to which positions and token types are added; None: D
    table_width: int | None = None  # of what `logits` reads; None: D

    def __init__(
        self, *, scale: float, norm: bool, tie: Sequence[str], norm_of_sum: bool = False, token_types: int = 0
    ):
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

    def project(self, x: Tensor) -> Tensor:
        """The sum of all that is added, perhaps normed, as the stack reads it: (B,T,D)."""
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,D) -> (...,V), for an output layer that shares the table."""
        raise NotImplementedError

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor] | None:
        """x (...,N) and a matrix (V,N) whose product x matrix^T the logits are; None where they are no single one."""
        return None


class Table(Embedding):
    """A row of a table (V,D) for each id."""

    def __init__(self, parts: Parts, place: Place, **settings: Any):
        super().__init__(**settings)
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

    def __init__(self, parts: Parts, place: Place, *, d_inner: int, **settings: Any):
        super().__init__(**settings)
        self.product = Product(parts.shape["vocab_size"], d_inner, parts.d_model, place)

    def vectors(self, ids: Tensor) -> Tensor:
        return self.product(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.product.logits(hidden)

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.product.as_product(hidden)


class Projected(Embedding):
    """A narrow table (V,N) and one projection from N to D, with a bias if ``bias`` is set.

    ``project_sum``: positions, token types and the norm are of width N, and their sum is projected (ALBERT, Lan et al.
    2020, https://arxiv.org/abs/1909.11942; ELECTRA, Clark et al. 2020, https://arxiv.org/abs/2003.10555); else what the
    table holds is projected, and they are of width D (OPT-350m, Zhang et al. 2022, https://arxiv.org/abs/2205.01068).
    A head that shares the table has a projection of its own from D to N.
    """

    ranges: ClassVar[Ranges] = {"d_inner": COUNT}

    def __init__(self, parts: Parts, place: Place, *, d_inner: int, bias: bool, project_sum: bool, **settings: Any):
        super().__init__(**settings)
        n = parts.shape["vocab_size"]
        self.table = declare(nn.Parameter(torch.empty(n, d_inner)), "table", fan_in=n, fan_out=d_inner, place=place)
        self.projection = Linear(d_inner, parts.d_model, role="normal", place=place, bias=bias)
        self.project_sum, self.table_width = project_sum, d_inner
        self.sum_width = d_inner if project_sum else None

    def vectors(self, ids: Tensor) -> Tensor:
        """(B,T) -> (B,T,D), or (B,T,N) with ``project_sum``."""
        x = nn.functional.embedding(ids, self.table)
        return x if self.project_sum else self.projection(x)

    def project(self, x: Tensor) -> Tensor:
        return self.projection(x) if self.project_sum else x

    def logits(self, hidden: Tensor) -> Tensor:
        """(...,N) -> (...,V)."""
        return nn.functional.linear(hidden, self.table)

    def as_product(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, self.table


class TokenTypes(nn.Module):
    """A vector for each token's type, such as the sentence that it is in; of type 0 where the batch has no types."""

    token_wise = True

    def __init__(self, parts: Parts, place: Place, n: int):
        super().__init__()
        self.table = declare(
            nn.Parameter(torch.empty(n, parts.d_model)), "position_table", fan_in=n, fan_out=parts.d_model, place=place
        )

    def forward(self, view: View) -> Tensor:
        """(B,T,D), or (D,) without types."""
        return self.table[0] if view.token_types is None else nn.functional.embedding(view.token_types, self.table)


def token_types(parts: Parts, stack: str) -> TokenTypes | None:
    """What the types of its tokens add to a stack's embedding: one for all that ``embedding.tie`` names, or None."""
    n = parts.slots["embedding"].keywords.get("token_types", 0)
    if not n:
        return None
    key = ("token types", "tied" if stack in parts.tie else stack)
    return cast(TokenTypes, parts.shared(key, lambda: TokenTypes(parts, Place(stack, sublayer="embedding"), n)))
