"""Sparse attention: patterns that depend only on the positions of query and key.

Here the patterns are masks on dense attention: the results are those of the papers, time and counted FLOPs those of
full attention. Positions are counted within each segment, so that packing changes nothing; the memory is fully visible;
a decoder sees what its causal or prefix mask leaves of the pattern; every token sees itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ablate.errors import UserError, nearest
from ablate.model.attention import Attention, pairs
from ablate.model.contract import FULL, Context, Parts, Place, View
from ablate.ranges import COUNT, AddedKeys, Ranges, whole


class SlidingWindow(Attention):
    """Attention to the ``window`` tokens on each side, in a decoder to those before (Longformer, Beltagy et al. 2020,
    https://arxiv.org/abs/2004.05150; ModernBERT, LongT5).

    ``counts_itself``: the token itself is one of them, as Mistral (Jiang et al. 2023,
    https://arxiv.org/abs/2310.06825), Gemma and GPT-Neo count: |q - k| < window, else |q - k| <= window.
    """

    ranges: ClassVar[Ranges] = {"window": COUNT}
    added_keys: ClassVar[AddedKeys] = {"counts_itself": False}
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, window: int, counts_itself: bool = False, **numbers: Any):
        super().__init__(parts, place, **numbers)
        self.window = window - counts_itself  # the tokens on each side
        self.looks = f"window/{self.window}"

    def sees(self, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() <= self.window


class Factorized(Attention):
    """Two patterns by which every token is reached in two steps (Child et al. 2019, https://arxiv.org/abs/1904.10509).

    Subclasses define by positions (q, k) which keys are ``near`` and which are ``far``. ``factors`` names those that
    are attended to: both is the paper's merged head, one of them in each layer (`ByLayer`) its interleaving.
    ``by_head``: the heads are divided among the factors. Raises UserError for an unknown factor, and for fewer heads
    than factors.
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
                    f"attention.factors: {name!r} must be one of {', '.join(self.known)}{nearest(name, self.known)}"
                )
        if not factors or (by_head and len(factors) > self.n_heads):
            raise UserError(
                f"attention.factors: {len(factors)} factors; there must be at least one, and with by_head at most "
                f"as many as heads, {self.n_heads}"
            )
        self.stride, self.factors, self.by_head = stride, list(factors), by_head
        self.looks = f"{type(self).__name__}/{stride}/{factors}/{self.n_heads if by_head else 'merged'}"

    def pattern(self, view: View) -> Tensor:
        q, k = torch.broadcast_tensors(*pairs(view))
        seen: list[Tensor] = [getattr(self, name)(q, k) for name in self.factors]  # (1 or B,1,T,T) each
        itself: Tensor = q == k
        if self.by_head:
            factor_of_head = torch.arange(self.n_heads, device=q.device) * len(seen) // self.n_heads
            return torch.cat(seen, 1)[:, factor_of_head] | itself
        return torch.stack(seen).any(0) | itself


class Strided(Factorized):
    """``near``: the ``stride`` tokens on each side; ``far``: every ``stride``-th token from the query on."""

    incremental = True

    def near(self, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() <= self.stride

    def far(self, q: Tensor, k: Tensor) -> Tensor:
        return (q - k) % self.stride == 0


class Fixed(Factorized):
    """``near``: the query's own block of ``stride`` tokens; ``far``: the last ``summary`` tokens of every block.

    Raises UserError if the summary is longer than a block.
    """

    incremental = True

    def __init__(self, parts: Parts, place: Place, *, summary: int, **numbers: Any):
        super().__init__(parts, place, **numbers)
        if summary > self.stride:
            raise UserError(
                f"attention.summary={summary}: must be at most attention.stride={self.stride}, the length of a block"
            )
        self.summary = summary
        self.looks = f"{self.looks}/{summary}"

    def near(self, q: Tensor, k: Tensor) -> Tensor:
        return q // self.stride == k // self.stride

    def far(self, q: Tensor, k: Tensor) -> Tensor:
        return k % self.stride >= self.stride - self.summary


class BlockSparse(Attention):
    """Windows, global blocks and random blocks (BigBird, Zaheer et al. 2020, https://arxiv.org/abs/2007.14062).

    The sequence is divided into blocks of ``block_size`` tokens. A block attends to the ``window_blocks`` on each side,
    to the ``global_blocks`` (-1 is the last one), which themselves attend to everything, and to ``random_blocks``
    others, drawn for each head and always the same: they depend on ``random_seed``, layer, head and positions, never on
    the run. In a decoder they are drawn among earlier blocks, and blocks counted from the end are not global, so that
    what a token sees never depends on the length. In packed rows the end is that of the row. If layers share one block
    of the stack, it has the pattern of the first.

    ``random_table``, nested lists (layers,H,N - 2,r), gives the random blocks instead: those of each block but the
    first and the last, for sequences of N blocks. A block that is named twice, or is seen anyway, counts as often in
    the softmax, as in the authors' library, where random blocks are keys of their own (transformers' table of zeros in
    evaluation counts block 0 1 + r times). In encoders, rows of at most ``full_up_to`` blocks see everything, as there,
    where these are 5 + 2 r.
    Raises UserError for a table that does not fit.
    """

    ranges: ClassVar[Ranges] = {"block_size": COUNT, "full_up_to": whole(0)}
    added_keys: ClassVar[AddedKeys] = {"random_table": None, "full_up_to": 0}
    table: Tensor | None

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
        random_table: Sequence[Any] | None = None,
        full_up_to: int = 0,
        **numbers: Any,
    ):
        super().__init__(parts, place, **numbers)
        self.full_up_to = full_up_to
        table = None if random_table is None else table_of_layer(random_table, place, self.n_heads)
        self.register_buffer("table", table, persistent=False)
        self.block_size, self.window_blocks, self.random_blocks = block_size, window_blocks, random_blocks
        self.global_blocks, self.random_seed, self.layer = list(global_blocks), random_seed, place.layer
        numbers_of_pattern = (block_size, window_blocks, global_blocks, random_blocks, random_seed, full_up_to)
        self.looks = "/".join(map(str, ("blocks", *numbers_of_pattern, self.layer, self.n_heads)))

    def pattern(self, view: View) -> Tensor | None:
        if self._is_short(view):
            return None
        return self._of_pairs(self.blocks(self._count(view), view.order == FULL, view.ids.device), view)

    def _count(self, view: View) -> int:
        return -(-view.length // self.block_size)

    def _is_short(self, view: View) -> bool:
        return view.order == FULL and self._count(view) <= self.full_up_to

    def _of_pairs(self, blocks: Tensor, view: View) -> Tensor:
        """Values of pairs of blocks (H,N,N) as those of pairs of tokens (1 or B,H,T,T)."""
        q, k = (places[:, 0] // self.block_size for places in pairs(view))
        return blocks[:, q, k].transpose(0, 1)

    def _mask_bias(self, ctx: Context) -> Tensor | None:
        bias = super()._mask_bias(ctx)
        if self.table is None or self.looks_at_memory or self._is_short(ctx.view):
            return bias
        return ctx.shared(f"{self.own_mask}/counted", lambda: self._counted(bias, ctx.view))

    def _counted(self, bias: Tensor | None, view: View) -> Tensor:
        """The mask, plus the logarithm of how often a block counts in the softmax."""
        count, ahead = self._count(view), view.order == FULL
        times = (self._always(count, ahead, view.ids.device).long() + self._tabled(count)).clamp_min(1)
        logarithms = self._of_pairs(times.float().log(), view)
        return logarithms if bias is None else logarithms + bias

    def _tabled(self, count: int) -> Tensor:
        """(H,N,N): how often the table names each block (columns) for each block but the first and the last."""
        assert self.table is not None
        if self.table.shape[1] != count - 2:
            raise UserError(
                f"attention.random_table is for {self.table.shape[1] + 2} blocks, and a sequence has {count} "
                f"of attention.block_size={self.block_size}"
            )
        named = functional.one_hot(self.table, count).sum(2)  # (H,N-2,r) -> (H,N-2,N)
        return functional.pad(named, (0, 0, 1, 1))

    def blocks(self, count: int, ahead: bool, device: torch.device) -> Tensor:
        """(H,count,count) bool: the blocks (columns) that each block sees; random ones before it unless `ahead`."""
        seen = self._always(count, ahead, device)
        if self.table is not None:
            return seen | (self._tabled(count) > 0)
        at = torch.arange(count, device=device)
        return seen | self.draw(~seen if ahead else ~seen & (at < at[:, None]))

    def _always(self, count: int, ahead: bool, device: torch.device) -> Tensor:
        """(N,N) bool: the blocks of windows, and those that see and are seen everywhere."""
        q, k = (torch.arange(count, device=device).view(shape) for shape in ((-1, 1), (1, -1)))
        seen = (q - k).abs() <= self.window_blocks
        for block in self.global_blocks:
            if -count <= block < count and (block >= 0 or ahead):
                seen = seen | (q == block % count) | (k == block % count)
        return seen

    def draw(self, candidates: Tensor) -> Tensor:
        """(H,N,N) bool: up to ``random_blocks`` of each row's candidates (N,N), those with the largest hashes."""
        count, device = candidates.shape[0], candidates.device
        places = torch.arange(max(count, self.n_heads), device=device)
        # a hash of (seed, layer, head, query block, key block), (H,N,N), by hashing in one number after the other
        lots = scramble(scramble(scramble(places[:1] + self.random_seed) + self.layer) + places[: self.n_heads])
        lots = scramble(scramble(lots[:, None] + places[:count])[..., None] + places[:count])
        lots = torch.where(candidates, lots * count + places[:count], -1)  # distinct within a row
        best = lots.topk(min(self.random_blocks, count), dim=-1)
        return torch.zeros_like(lots, dtype=torch.bool).scatter(-1, best.indices, best.values >= 0)


def table_of_layer(table: Sequence[Any], place: Place, n_heads: int) -> Tensor:
    """(H,N - 2,r): the part of `random_table` that is of the layer at `place`; UserError where its shape is wrong."""
    try:
        layers = np.array(table)
    except ValueError:  # lists of different lengths
        layers = np.zeros(0)
    is_whole = np.issubdtype(layers.dtype, np.integer)
    if not is_whole or layers.ndim != 4 or len(layers) <= place.layer or layers.shape[1] != n_heads:
        raise UserError(
            "attention.random_table must be lists of whole numbers: for each layer, for each head "
            f"(here {place.n_layers} and {n_heads}), for each block but the first and the last, its random blocks"
        )
    of_layer = layers[place.layer]
    if of_layer.min() < 0 or of_layer.max() >= of_layer.shape[1] + 2:
        raise UserError(f"attention.random_table names a block that is none of its {of_layer.shape[1] + 2}")
    return torch.tensor(of_layer.tolist(), dtype=torch.long)


def scramble(x: Tensor) -> Tensor:
    """A 32-bit integer hash on int64: one-to-one, the same on every device, and compilable."""
    x = x & 0xFFFFFFFF
    for _ in range(2):
        x = ((x >> 16) ^ x) * 0x45D9F3B & 0xFFFFFFFF
    return (x >> 16) ^ x
