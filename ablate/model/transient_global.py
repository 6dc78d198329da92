"""LongT5's transient-global attention (Guo et al. 2022, https://arxiv.org/abs/2112.07916), for encoders.

Beside the tokens in its window, each token attends to one key and value for each block of tokens: made in the layer, by
its own projections, from the normed sum of what the layer reads at the block's tokens. Tokens behind the last whole
block of a document belong to that one; a document shorter than a block has none. Positions do not turn these keys; they
have a bias of their own by the distance in blocks, with one table for all layers of a stack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.attention import attend, mask_to_bias
from ablate.model.contract import FULL, Context, Parts, Place, View, declare
from ablate.model.position import BIAS, QUERIES, ROTATE, check_buckets, relative_buckets
from ablate.model.sparse import SlidingWindow
from ablate.ranges import COUNT, Ranges


@dataclass(frozen=True)
class Blocks:
    """The G whole blocks of each row, of all its documents: ``of_token`` (1 or B,T), the block of each token, or -1;
    ``segments`` (B,G), the document of each block, -1 where there is none; None where all rows are one document."""

    of_token: Tensor
    segments: Tensor | None

    def members(self, count: int) -> Tensor:
        """(1 or B,G,T) bool: which tokens a block has."""
        return self.of_token[:, None, :] == torch.arange(count, device=self.of_token.device)[:, None]

    def distances(self, count: int) -> Tensor:
        """(1 or B,T,G): each block less that of each token."""
        return torch.arange(count, device=self.of_token.device) - self.of_token[..., None]


def blocks_of(view: View, size: int) -> Blocks:
    """The blocks of `size` tokens of each document of a view, counted from its first token."""
    count = view.length // size
    if view.segments is None:
        at = torch.arange(view.length, device=view.ids.device)
        return Blocks((at // size).clamp_max(count - 1)[None], None)
    segments = view.segments
    ends = ((view.place_indices() + 1) % size == 0) & (segments != 0)
    own = ends.cumsum(1) - ends.long()  # (B,T): the whole blocks before each token: the number of its own, if whole
    found = torch.full((len(segments), count + 1), -1, dtype=segments.dtype, device=segments.device)
    found = found.scatter(1, torch.where(ends, own, count), segments)[:, :count]
    exists = lambda block: found.gather(1, block.clamp(0, count - 1)) == segments  # noqa: E731
    is_whole, has_one = (own < count) & exists(own), (own > 0) & exists(own - 1)
    return Blocks(torch.where(is_whole, own, torch.where(has_one, own - 1, -1)), found)


class BlockBias(nn.Module):
    """A bias (H,buckets) by the distance in blocks, in T5's buckets."""

    def __init__(self, place: Place, n_heads: int, n_buckets: int, max_distance: int):
        super().__init__()
        check_buckets(n_buckets, max_distance)
        self.table = declare(
            nn.Parameter(torch.empty(n_heads, n_buckets)), "relative", fan_in=n_heads, fan_out=n_buckets, place=place
        )
        self.max_distance = max_distance

    def forward(self, distance: Tensor) -> Tensor:
        """(1 or B,T,G) -> (1 or B,H,T,G)."""
        buckets = relative_buckets(
            distance, bidirectional=True, n_buckets=self.table.shape[1], max_distance=self.max_distance
        )
        return self.table[:, buckets].transpose(0, 1)


class TransientGlobal(SlidingWindow):
    """A window of tokens, and the sums of blocks of ``global_block`` tokens; a table of ``n_buckets`` for these."""

    ranges: ClassVar[Ranges] = {"global_block": COUNT, "n_buckets": COUNT, "max_distance": COUNT}
    supports = frozenset({ROTATE, BIAS, QUERIES})
    mask_orders = frozenset({FULL})

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        global_block: int,
        n_buckets: int,
        max_distance: int,
        **numbers: Any,
    ):
        super().__init__(parts, place, **numbers)
        self.global_block = global_block
        self.global_norm = parts.norm(place)
        if self.global_norm.uses_batch_statistics:
            raise UserError("attention=transient_global norms sums of tokens, of which a batch has no statistics")
        key = ("transient_global", place.stack, self.n_heads, n_buckets, max_distance)
        self.block_bias = parts.shared(key, lambda: BlockBias(place, self.n_heads, n_buckets, max_distance))

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        view, count = ctx.view, x.shape[1] // self.global_block
        if count == 0:
            return super().forward(x, ctx)
        blocks = ctx.shared(f"blocks/{self.global_block}", lambda: blocks_of(view, self.global_block))
        sums = blocks.members(count).to(x.dtype) @ x  # (B,G,D)
        side_keys, side_values = self._keys_of(self.global_norm(sums, view).to(x.dtype), view)
        q = self._projected(self.query, self.query_norm, x, view) * self.score_scale
        k, v = self._keys_of(x, view)
        bias = None
        if self.position is not None:
            q, k = self.position.rotate(q, k, ctx)
            bias = self.position.bias(q, ctx)
        side_bias = self.block_bias(blocks.distances(count))  # (1 or B,H,T,G)
        out = attend(
            q,
            torch.cat((k, side_keys), 2),
            torch.cat((v, side_values), 2),
            bias=_beside(bias, side_bias, x.shape[1]),
            mask_bias=ctx.shared(f"{self.looks}/{self.global_block}", lambda: self._mask_of_both(ctx, blocks, count)),
            dropout=self.dropout if self.training else 0.0,
            soft_cap=self.soft_cap,
        )
        return self.combine(out, ctx)

    def _mask_of_both(self, ctx: Context, blocks: Blocks, count: int) -> Tensor:
        """The additive mask (1 or B,1,T,T + G): the window, and all blocks of the token's document."""
        window = self._mask_bias(ctx)
        assert window is not None  # a window is never all that there is
        segments = ctx.view.segments
        if segments is None or blocks.segments is None:
            return functional.pad(window, (0, count))
        seen = mask_to_bias((segments[:, :, None] == blocks.segments[:, None, :])[:, None])
        assert seen is not None
        return torch.cat((window, seen), -1)


def _beside(bias: Tensor | None, side: Tensor, length: int) -> Tensor:
    """The position's bias (1 or B,H,T,T) and that of blocks (1 or B,H,T,G) in one: (1 or B,H,T,T + G)."""
    if bias is None:
        return functional.pad(side, (length, 0))
    rows = max(len(bias), len(side))
    return torch.cat((bias.expand(rows, -1, -1, -1), side.expand(rows, -1, -1, -1)), -1)
