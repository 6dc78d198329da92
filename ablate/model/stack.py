"""A stack of blocks: ``stack(x (B,T,D), ctx) -> (output, ctx, states)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import Context, Parts, Place
from ablate.ranges import DEPTH, Ranges


class PlainStack(nn.Module):
    """``n_layers`` layers one after the other, dropout at both ends, and the final norm.

    ``states`` holds the input, the residual stream after each block but the last, and the output; each (B,T,D).
    Raises UserError if n_layers is not a multiple of the layers of a block.
    """

    ranges: ClassVar[Ranges] = {"n_layers": DEPTH}
    needs: frozenset[str] = frozenset()  # the stacks that a model must have for this one to make sense
    repeats = False  # whether a layer is applied more than once
    mixes_segments = False  # whether tokens of one segment reach another other than by attention
    incremental = True
    calls_steps = False  # whether the steps of its blocks are called one by one, and not the blocks

    def __init__(self, parts: Parts, place: Place, *, n_layers: int):
        super().__init__()
        depth = n_blocks(parts, place.stack, n_layers)
        blocks = [parts.block(Place(place.stack, layer, depth)) for layer in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        last = Place(place.stack, depth - 1, depth, "end")
        self.end = None if blocks[-1].ends_normed else parts.end(last)
        self.dropout = nn.Dropout(parts.dropout)

    @staticmethod
    def depth(options: Mapping[str, Any]) -> int:
        """How many layers a token passes through in a stack with these options."""
        n_layers: int = options["n_layers"]
        return n_layers

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context, list[Tensor]]:
        states, ctx = self.through(self.dropout(x), ctx)
        x = states[-1]
        if self.end is not None:
            x = self.end(x, ctx.view)
        x = ctx.view.clear_padding(self.dropout(x))
        return x, ctx, [*states[:-1], x]

    def through(self, x: Tensor, ctx: Context) -> tuple[list[Tensor], Context]:
        """The input and the residual stream after each block, and the context that the last block returned."""
        states = [x]
        for block in self.blocks:
            x, ctx = block(x, ctx)
            states.append(x)
        return states, ctx


def n_blocks(parts: Parts, stack: str, n_layers: int) -> int:
    """How many blocks make `n_layers`, as a block may count as several; UserError if that is not a whole number."""
    layers: int = parts.declared("block", Place(stack)).layers
    if n_layers % layers:
        raise UserError(
            f"stack.{stack}.n_layers={n_layers}: must be a multiple of {layers}, "
            "the layers that a block of this kind counts as"
        )
    return n_layers // layers
