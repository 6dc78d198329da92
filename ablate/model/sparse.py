"""Which pairs are looked at: attention under patterns that depend on the places of query and key alone.

Here the patterns are masks on dense attention: what is seen is the paper's, time and counted FLOPs are those of full
attention. Places are counted within each segment, so that packing changes nothing; the memory is seen whole; a
decoder sees what its order leaves of the pattern; every token sees itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ablate.errors import UserError, nearest
from ablate.model.attention import Attention
from ablate.model.contract import FULL, Parts, Place, View
from ablate.ranges import COUNT, Ranges


def pairs(view: View) -> tuple[Tensor, Tensor]:
    """The places of the queries (1 or B,1,T,1) and of the keys (1 or B,1,1,T)."""
    at = view.place_indices()[:, None]
    return at[..., :, None], at[..., None, :]


class SlidingWindow(Attention):
    """Attention to the ``window`` tokens on each side, in a decoder to those behind (Longformer, Beltagy et al. 2020,
    https://arxiv.org/abs/2004.05150; Mistral, Jiang et al. 2023, https://arxiv.org/abs/2310.06825, whose window counts
    the token itself and is one larger)."""

    ranges: ClassVar[Ranges] = {"window": COUNT}

    def __init__(self, parts: Parts, place: Place, *, window: int, **numbers: Any):
        super().__init__(parts, place, **numbers)
        self.window = window
        self.looks = f"window/{window}"

    def pattern(self, view: View) -> Tensor:
        q, k = pairs(view)
        return (q - k).abs() <= self.window


class Factorized(Attention):
    """Two patterns by which every token is reached in two steps (Child et al. 2019, https://arxiv.org/abs/1904.10509).

    Subclasses say by places (q, k) what is ``near`` and what is ``far``. ``factors`` names those that are looked at:
    both is the paper's merged head, one of them in each layer (`ByLayer`) its interleaving. ``by_head``: the heads
    are shared out among the factors. Raises UserError for a factor that there is not, and for fewer heads than factors.
    """

    ranges: ClassVar[Ranges] = {"stride": COUNT}
    known = ("near", "far")

    def __init__(
        self, parts: Parts, place: Place, *, stride: int, factors: Sequence[str], by_head: bool, **numbers: Any
    ):
        super().__init__(parts, place, **numbers)
        for name in factors:
            if name not in self.known:
                raise UserError(
                    f"attention.factors: no {name!r}, only {', '.join(self.known)}{nearest(name, self.known)}"
                )
        if not factors or (by_head and len(factors) > self.n_heads):
            raise UserError(f"attention.factors: {len(factors)} for {self.n_heads} heads")
        self.stride, self.factors, self.by_head = stride, list(factors), by_head
        self.looks = f"{type(self).__name__}/{stride}/{factors}/{self.n_heads if by_head else 'merged'}"

    def pattern(self, view: View) -> Tensor:
        q, k = torch.broadcast_tensors(*pairs(view))
        seen = [getattr(self, name)(q, k) for name in self.factors]
        if self.by_head:
            share = torch.arange(self.n_heads, device=q.device) * len(seen) // self.n_heads
            return torch.cat(seen, 1)[:, share] | (q == k)
        return torch.stack(seen).any(0) | (q == k)


class Strided(Factorized):
    """``near``: the ``stride`` tokens on each side; ``far``: every ``stride``-th token from the query on."""

    def near(self, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() <= self.stride

    def far(self, q: Tensor, k: Tensor) -> Tensor:
        return (q - k) % self.stride == 0


class Fixed(Factorized):
    """``near``: the query's own block of ``stride`` tokens; ``far``: the last ``summary`` tokens of every block.

    Raises UserError where the summary is longer than a block.
    """

    def __init__(self, parts: Parts, place: Place, *, summary: int, **numbers: Any):
        super().__init__(parts, place, **numbers)
        if summary > self.stride:
            raise UserError(f"attention.summary={summary}: longer than a block, attention.stride={self.stride}")
        self.summary = summary
        self.looks += f"/{summary}"

    def near(self, q: Tensor, k: Tensor) -> Tensor:
        return q // self.stride == k // self.stride

    def far(self, q: Tensor, k: Tensor) -> Tensor:
        return k % self.stride >= self.stride - self.summary


class BlockSparse(Attention):
    """Windows, global blocks and random blocks (BigBird, Zaheer et al. 2020, https://arxiv.org/abs/2007.14062).

    The sequence is cut into blocks of ``block_size`` tokens. A block looks at the ``window_blocks`` on each side, at
    the ``global_blocks`` (-1 is the last one), which look at everything themselves, and at ``random_blocks`` others,
    drawn for each head, always the same: they depend on ``random_seed``, layer, head and places, never on the run.
    In a decoder they are drawn among the blocks behind, and blocks counted from the end are not global, so that what
    is seen never depends on the length. Where rows are packed the end is the row's. A block that several layers share
    has the pattern of the first.
    """

    ranges: ClassVar[Ranges] = {"block_size": COUNT}

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        block_size: int,
        window_blocks: int,
        global_blocks: Sequence[int],
        random_blocks: int,
        random_seed: int,
        **numbers: Any,
    ):
        super().__init__(parts, place, **numbers)
        self.block_size, self.window_blocks, self.random_blocks = block_size, window_blocks, random_blocks
        self.global_blocks, self.random_seed, self.layer = list(global_blocks), random_seed, place.layer
        self.looks = f"blocks/{block_size}/{window_blocks}/{global_blocks}/{random_blocks}/{random_seed}/{self.layer}/{self.n_heads}"

    def pattern(self, view: View) -> Tensor:
        count = -(-view.length // self.block_size)
        blocks = self.blocks(count, view.order == FULL, view.ids.device)
        q, k = (places[:, 0] // self.block_size for places in pairs(view))
        return blocks[:, q, k].transpose(0, 1)

    def blocks(self, count: int, ahead: bool, device: torch.device) -> Tensor:
        """(H,count,count) bool: which blocks (columns) each block looks at; only those behind unless `ahead`."""
        q, k = (torch.arange(count, device=device).view(shape) for shape in ((-1, 1), (1, -1)))
        seen = (q - k).abs() <= self.window_blocks
        for block in self.global_blocks:
            if -count <= block < count and (block >= 0 or ahead):
                seen = seen | (q == block % count) | (k == block % count)
        drawn = self.draw(~seen if ahead else ~seen & (k < q))
        return seen | drawn

    def draw(self, candidates: Tensor) -> Tensor:
        """(H,N,N) bool: up to ``random_blocks`` of each row's candidates (N,N), by the order of scrambled numbers."""
        count, device = candidates.shape[0], candidates.device
        places = torch.arange(max(count, self.n_heads), device=device)
        lots = scramble(scramble(scramble(places[:1] + self.random_seed) + self.layer) + places[: self.n_heads])
        lots = scramble(scramble(lots[:, None] + places[:count])[..., None] + places[:count])
        lots = torch.where(candidates, lots * count + places[:count], -1)  # the last digit: no two are equal
        best = lots.topk(min(self.random_blocks, count), dim=-1)
        return torch.zeros_like(lots, dtype=torch.bool).scatter(-1, best.indices, best.values >= 0)


def scramble(x: Tensor) -> Tensor:
    """A 32-bit integer hash on int64: a one-to-one shuffle that is the same on every device and compiles."""
    x = x & 0xFFFFFFFF
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x
