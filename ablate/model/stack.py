"""A stack of blocks: ``stack(x (B,T,D), ctx) -> (output, ctx, states)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from ablate.errors import UserError
from ablate.model.contract import Context, Parts, Place
from ablate.ranges import COUNT, Ranges


class PlainStack(nn.Module):
    """``n_layers`` layers one after the other, dropout at both ends, and the end norm.

    ``states`` holds the input, the residual stream after each block, and in the last one's place the final output.
    Raises UserError where the layers do not divide into blocks.
    """

    ranges: ClassVar[Ranges] = {"n_layers": COUNT}
    needs: frozenset[str] = frozenset()  # the stacks that a model must have for this one to make sense
    repeats = False  # whether a layer is applied more than once
    mixes_segments = False  # whether tokens of one segment reach another beside attention

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
        """How many layers a token passes in a stack with these options."""
        return options["n_layers"]

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context, list[Tensor]]:
        states, ctx = self.through(self.dropout(x), ctx)
        x = states[-1]
        if self.end is not None:
            x = self.end(x, ctx.view)
        x = ctx.view.clear_padding(self.dropout(x))
        return x, ctx, [*states[:-1], x]

    def through(self, x: Tensor, ctx: Context) -> tuple[list[Tensor], Context]:
        """The input and the residual stream after each block, and the context that the last block handed on."""
        states = [x]
        for block in self.blocks:
            x, ctx = block(x, ctx)
            states.append(x)
        return states, ctx


def n_blocks(parts: Parts, stack: str, n_layers: int) -> int:
    """How many blocks make `n_layers`, where a block may stand for several; UserError where that is not whole."""
    layers = parts.factory("block", Place(stack)).func.layers
    if n_layers % layers:
        raise UserError(
            f"stack.{stack}.n_layers={n_layers}: a block of this kind stands for {layers} layers, "
            f"and {n_layers} are {n_layers / layers:g} blocks"
        )
    return n_layers // layers
