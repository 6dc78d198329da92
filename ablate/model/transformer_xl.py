"""Transformer-XL's relative positions (Dai et al. 2019, https://arxiv.org/abs/1901.02860), as in XLNet and Gopher.

    score[i, j] = s ((q_i + u) . k_j  +  (q_i + v) . W R(i - j))

R(d) are D sines and cosines of the distance d, sines first. The matrix W (H K,D), without a bias, and the vectors u and
v (H,K) belong to one layer; s is the attention's score scale. A decoder looks at distances from 0 on, an encoder at
both signs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ablate.model.contract import CAUSAL, Context, Linear, Parts, Place, View, declare
from ablate.model.position import BIAS, QUERIES, ROTATE, Position, sinusoids
from ablate.ranges import Ranges, above


class TransformerXL(Position):
    """The formula above; u is added to the queries that meet the keys, the rest is a bias."""

    ranges: ClassVar[Ranges] = {"max_timescale": above(1)}
    needs = frozenset({ROTATE, BIAS, QUERIES})
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, n_heads: int, head_dim: int, max_timescale: float):
        super().__init__(parts, place, n_heads=n_heads, head_dim=head_dim)
        self.content_bias, self.distance_bias = (  # u and v
            declare(nn.Parameter(torch.empty(n_heads, head_dim)), "bias", place=place) for _ in range(2)
        )
        self.projection = Linear(parts.d_model, n_heads * head_dim, role="key", place=place, head_dim=head_dim)
        self.max_timescale, self.d_model = max_timescale, parts.d_model

    @staticmethod
    def shared_by(place: Place, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> tuple[Hashable, ...]:
        return place.stack, place.layer, n_heads, head_dim

    def rotate(self, q: Tensor, k: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        return q + self._scaled(self.content_bias, q), k

    def bias(self, q: Tensor, ctx: Context) -> Tensor:
        q = q + self._scaled(self.distance_bias - self.content_bias, q)  # `rotate` has added u
        n_keys = q.shape[2] if ctx.view.keys is None else ctx.view.keys.length
        ahead = 0 if ctx.view.order == CAUSAL else n_keys - 1
        keys = self._of_distances(n_keys, ahead)  # (H,K,n)
        by_distance = q @ keys.to(q.dtype)  # (B,H,T,n): a product with each distance that there is
        return by_distance.gather(-1, self._index(q, ctx.view, n_keys, ahead).expand(*q.shape[:2], -1, -1))

    def _scaled(self, vector: Tensor, q: Tensor) -> Tensor:
        """A vector for each head (H,K) as (H,1,K), scaled as the queries are."""
        return (vector * self.score_scale)[:, None].to(q.dtype)

    def _of_distances(self, n_keys: int, ahead: int) -> Tensor:
        """(H,K,n): W R(i - j) for the distances j - i from 1 - `n_keys` to `ahead`."""
        distance = torch.arange(1 - n_keys, ahead + 1, device=self.content_bias.device)
        waves = sinusoids(-distance, self.d_model, self.max_timescale, endpoint=False)
        projected = self.projection(waves.to(self.content_bias.dtype))  # (n,H K)
        by_head: Tensor = projected.unflatten(-1, self.content_bias.shape).permute(1, 2, 0)
        return by_head

    @staticmethod
    def _index(q: Tensor, view: View, n_keys: int, ahead: int) -> Tensor:
        """(T,T) or (B or 1,1,T,S): where each pair's distance is; later keys, which are masked, as the last."""
        if view.keys is None:
            at = torch.arange(q.shape[2], device=q.device)
            distance = at[None, :] - at[:, None]
        else:
            distance = view.distances()[:, None]
        return (distance + n_keys - 1).clamp(0, n_keys - 1 + ahead)
