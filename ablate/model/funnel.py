"""The Funnel Transformer: an encoder whose sequence becomes shorter from layer to layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ablate.errors import UserError
from ablate.model.contract import SELF_ATTENTION, Context, Parts, Place, View
from ablate.model.stack import PlainStack
from ablate.ranges import DEPTH, Ranges, Relations, halves


class FunnelStack(PlainStack):
    """An encoder in ``n_blocks`` groups of layers; each group but the first halves the length (Dai et al. 2020,
    https://arxiv.org/abs/2006.03236).

        512 tokens -> layers 1-4 -> attention of layer 5 -> 256 -> ... -> attention of layer 9 -> 128 -> ... layer 12

    Each pair of tokens is replaced by its mean after the first self-attention of a group and its residual, as in Narang
    et al.'s library, while Dai et al. pool the queries. There is no upsampling: a decoder attends to the short
    sequence. A pair has the segment of its first token, and half its position.

    Narang et al.'s row is their released configuration, with RMS norm in the encoder (``norm=rmsnorm_encoder``); their
    text names no norm, and ``stack=funnel`` alone keeps the norm that is chosen. The 1.9 T operations that they publish
    are those of a quarter of the batch.

    ``counts_padding: true`` is the library: in a pair of a token and padding, padding enters the mean; with false it
    has no influence. If two segments meet in a pair they are averaged in either case: the library does not
    pack examples for this row. Raises UserError if the blocks cannot be divided into n_blocks groups, and for a length
    that cannot be halved that often: it is not padded.
    """

    ranges: ClassVar[Ranges] = {"n_blocks": DEPTH}
    relations: ClassVar[Relations] = {"n_blocks": halves("objective.length")}
    needs = frozenset({"encoder", "decoder"})
    mixes_segments = True
    calls_steps = True  # and not the blocks that they belong to

    def __init__(self, parts: Parts, place: Place, *, n_layers: int, n_blocks: int, counts_padding: bool):
        super().__init__(parts, place, n_layers=n_layers)
        depth = len(self.blocks)
        if depth % n_blocks:
            raise UserError(
                f"stack.{place.stack}.n_blocks={n_blocks}: {depth} blocks cannot be divided "
                f"into {n_blocks} equal groups"
            )
        self.pools_in = range(depth // n_blocks, depth, depth // n_blocks)
        self.counts_padding = counts_padding

    def through(self, x: Tensor, ctx: Context) -> tuple[list[Tensor], Context]:
        check_length(ctx.view.length, len(self.pools_in))
        states = [x]
        for layer, block in enumerate(self.blocks):
            pools = layer in self.pools_in
            steps: Any = block.steps  # Any: they have kinds
            for step in steps:
                x, ctx = step(x, ctx)
                if pools and (SELF_ATTENTION in step.kinds or step is steps[-1]):
                    x, ctx = self._halve(x, ctx)
                    pools = False
            states.append(x)
        return states, ctx

    def _halve(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context]:
        """x (B,T,D) -> the means of pairs of tokens, (B,T/2,D), and the context for them."""
        present = None if self.counts_padding else ctx.view.present
        x = x.unflatten(1, (-1, 2))  # (B,T/2,2,D)
        if present is None:
            x = x.mean(2)
        else:
            weight = present.unflatten(1, (-1, 2)).unsqueeze(-1).to(x.dtype)  # (B,T/2,2,1)
            x = (x * weight).sum(2) / weight.sum(2).clamp_min(1.0)
        return x, replace(ctx, view=halved(ctx.view), cache={})  # cached masks and biases had the longer length


def halved(view: View) -> View:
    """The view of the pairs: ids and segments of their first tokens, positions in pairs."""
    return replace(
        view,
        ids=view.ids[:, ::2],
        segments=None if view.segments is None else view.segments[:, ::2],
        positions=None if view.positions is None else view.positions[:, ::2] // 2,
    )


def check_length(length: int, n_pools: int) -> None:
    """Raise UserError for a length that cannot be halved `n_pools` times."""
    if length % 2**n_pools:
        raise UserError(
            f"stack=funnel halves the encoder's length {n_pools} times, so {length} must be a multiple of {2**n_pools}"
        )
