"""Synthesizers: self-attention whose scores S are learned rather than products (Tay et al. 2020,
https://arxiv.org/abs/2005.00743).

    Dense         S = relu(q) P         from each token's query alone, P (K,S) shared by the heads
    Random        S = R                 a table with an entry for every pair of positions
    Factorized    S = R1 R2^T           the same from two small tables
    alone         softmax(S) v
    ...Plus       softmax(q k^T + S) v, or with ``alpha`` softmax((1 - s) q k^T + s S) v

In all of them the mask and the position's bias are added to the scores as in full attention. Tables are indexed by the
position in the row, also if examples are packed. The rows of Narang et al. 2021 have 8 heads of 128, the baseline 12 of
64.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.activation import relu
from ablate.model.attention import attend, attention_weights, mask_to_bias
from ablate.model.contract import CAUSAL, FULL, PREFIX, Context, Parts, Place, declare
from ablate.model.position import BIAS, MIX, QUERIES, ROTATE, Position
from ablate.ranges import COUNT, WIDTH, Ranges, Relations, covers


class Synthesizer(nn.Module):
    """softmax(S) v, with one projection instead of keys and values; subclasses define S by `synthesize`.

    ``max_length`` bounds the length of a sequence; UserError for a longer one. ``cross`` is the attention that reads
    the memory.
    """

    ranges: ClassVar[Ranges] = {"n_heads": WIDTH, "head_dim": WIDTH, "max_length": COUNT}
    relations: ClassVar[Relations] = {"max_length": covers("objective.length")}
    inner_options: ClassVar[dict[str, str]] = {"cross": "attention"}
    supports = frozenset({BIAS, MIX})
    mask_orders = frozenset({FULL, CAUSAL, PREFIX})

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        n_heads: int,
        head_dim: int,
        score_scale: float,
        max_length: int,
        cross: object = None,
    ):
        super().__init__()
        self.n_heads, self.head_dim, self.score_scale, self.max_length = n_heads, head_dim, score_scale, max_length
        d, inner = parts.d_model, n_heads * head_dim
        reads = QUERIES in self.supports
        self.query = parts.linear(d, inner, "query", place, head_dim=head_dim) if reads else None
        self.value = parts.linear(d, inner, "value", place, head_dim=head_dim)
        self.output = parts.linear(inner, d, "output", place, head_dim=head_dim)
        needs = parts.position_needs(place)
        self.mixes = MIX in needs
        self.position: Position | None = parts.position(place, n_heads, head_dim) if needs & self.supports else None
        if self.position is not None:
            self.position.score_scale = score_scale
        self.dropout = parts.dropout

    def synthesize(self, q: Tensor | None, length: int) -> Tensor:
        """S (1 or B,H,T,T); q (B,H,T,K) is already scaled, and None if the scores do not read queries."""
        raise NotImplementedError

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        if x.shape[1] > self.max_length:
            raise UserError(f"a sequence of {x.shape[1]} tokens is longer than attention.max_length={self.max_length}")
        q, v = None, self._split(self.value(x))
        if self.query is not None:
            q = self._split(self.query(x)) * self.score_scale
        out = self.look(x, q, v, ctx)  # (B,H,T,K)
        return self.output(out.transpose(1, 2).flatten(2))

    def look(self, x: Tensor, q: Tensor | None, v: Tensor, ctx: Context) -> Tensor:
        """The output of each head, (B,H,T,K)."""
        scores = self.synthesize(q, x.shape[1]).float()  # (1 or B,H,T,T)
        bias = None if self.position is None else self.position.bias(v if q is None else q, ctx)  # v for its shape
        for added in (bias, self._mask_bias(ctx)):
            if added is not None:
                scores = scores + added
        weights = scores.softmax(-1).to(v.dtype)
        if self.training and self.dropout:  # each example drops others, also of weights that all examples share
            weights = functional.dropout(weights.expand(len(v), -1, -1, -1), self.dropout)
        return self._mixed(share_out(weights, v), weights, ctx)

    def _mixed(self, out: Tensor, weights: Tensor, ctx: Context) -> Tensor:
        """out (B,H,T,K), plus what the position makes of the weights (1 or B,H,T,T)."""
        mixed = self.position.mix(weights, ctx.view) if self.position is not None and self.mixes else None
        return out if mixed is None else out + mixed

    def _split(self, x: Tensor) -> Tensor:
        """(B,T,H K) -> (B,H,T,K)."""
        split: Tensor = x.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)
        return split

    def _mask_bias(self, ctx: Context) -> Tensor | None:
        return ctx.shared("mask/synthesizer", lambda: mask_to_bias(ctx.view.visible()))


def share_out(weights: Tensor, v: Tensor) -> Tensor:
    """weights (1 or B,H,T,S) @ v (B,H,S,K) -> (B,H,T,K); weights that all examples share make one larger product."""
    return weights @ v if len(weights) == len(v) else torch.einsum("hts,bhsk->bhtk", weights[0], v)


class Dense(Synthesizer):
    """S = relu(q) P: each token scores the positions by its own query; P (K,``max_length``)."""

    supports = Synthesizer.supports | {QUERIES}

    def __init__(self, parts: Parts, place: Place, *, max_length: int, head_dim: int, **numbers: Any):
        super().__init__(parts, place, max_length=max_length, head_dim=head_dim, **numbers)
        self.table = declare(
            nn.Parameter(torch.empty(max_length, head_dim)),
            "relative_key",
            fan_in=head_dim,
            fan_out=max_length,
            head_dim=head_dim,
            place=place,
        )

    def synthesize(self, q: Tensor | None, length: int) -> Tensor:
        assert q is not None
        # (B,H,T,K) x (max_length,K)^T: positions past the end are scored too, as the paper's library counts operations
        return functional.linear(relu(q), self.table)[..., :length]


class Random(Synthesizer):
    """S = R (H,T,T), the same for every input; initially small (Glorot's limit for the library's table T x H x T)."""

    def __init__(self, parts: Parts, place: Place, *, max_length: int, n_heads: int, **numbers: Any):
        super().__init__(parts, place, max_length=max_length, n_heads=n_heads, **numbers)
        self.table = declare(
            nn.Parameter(torch.empty(n_heads, max_length, max_length)),
            "glorot",
            fan_in=max_length * n_heads,
            fan_out=max_length * max_length,
            place=place,
        )

    def synthesize(self, q: Tensor | None, length: int) -> Tensor:
        return self.table[None, :, :length, :length]


class Factorized(Synthesizer):
    """S from two tables (H,``rank``,T).

    As the paper's library ran it (``by_query: false``) both are read at the key's position, S[q,k] = sum_r R1[r,k]
    R2[r,k], so that all queries have the same scores; that is the published row. ``by_query: true`` is the intended
    S[q,k] = sum_r R1[r,q] R2[r,k], with the same number of parameters.
    """

    ranges: ClassVar[Ranges] = {"rank": COUNT}

    def __init__(
        self, parts: Parts, place: Place, *, rank: int, by_query: bool, max_length: int, n_heads: int, **numbers: Any
    ):
        super().__init__(parts, place, max_length=max_length, n_heads=n_heads, **numbers)
        self.by_query = by_query
        self.first, self.second = (
            declare(
                nn.Parameter(torch.empty(n_heads, rank, max_length)),
                "glorot",
                fan_in=rank * n_heads,
                fan_out=rank * max_length,
                place=place,
            )
            for _ in range(2)
        )

    def synthesize(self, q: Tensor | None, length: int) -> Tensor:
        first, second = self.first[..., :length], self.second[..., :length]  # (H,rank,T) each
        if self.by_query:
            return (first.transpose(-1, -2) @ second)[None]  # (1,H,T,T)
        return (first * second).sum(1)[None, :, None].expand(-1, -1, length, -1)  # one row (H,T) for all queries


class Plus(Synthesizer):
    """softmax(q k^T + S) v, with keys of their own.

    ``alpha``: softmax((1 - s) q k^T + s S) v with s = sigmoid(a), one a for the layer, which starts at 0.
    """

    supports = frozenset({ROTATE, BIAS, MIX, QUERIES})

    def __init__(self, parts: Parts, place: Place, *, alpha: bool, n_heads: int, head_dim: int, **numbers: Any):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim, **numbers)
        self.key = parts.linear(parts.d_model, n_heads * head_dim, "key", place, head_dim=head_dim)
        self.alpha = declare(nn.Parameter(torch.empty(1)), "zero", place=place) if alpha else None

    def look(self, x: Tensor, q: Tensor | None, v: Tensor, ctx: Context) -> Tensor:
        assert q is not None
        k, bias = self._split(self.key(x)), self.synthesize(q, x.shape[1])  # (B,H,T,K), (1 or B,H,T,T)
        share = None if self.alpha is None else self.alpha.sigmoid()
        if share is not None:
            bias = bias * share
        if self.position is not None:
            q, k = self.position.rotate(q, k, ctx)
            position_bias = self.position.bias(q, ctx)
            bias = bias if position_bias is None else bias + position_bias
        if share is not None:
            q = q * (1 - share)  # after the position has read q: only the product is scaled
        dropout = self.dropout if self.training else 0.0
        mask_bias = self._mask_bias(ctx)
        if not self.mixes:
            return attend(q, k, v, bias=bias, mask_bias=mask_bias, dropout=dropout)
        weights = functional.dropout(attention_weights(q, k, bias=bias, mask_bias=mask_bias), dropout)
        return self._mixed(weights @ v, weights, ctx)


class DensePlus(Plus, Dense):
    """softmax(q k^T + relu(q) P) v."""


class RandomPlus(Plus, Random):
    """softmax(q k^T + R) v."""
