"""A stack of blocks: ``stack(x (B,T,D), ctx) -> (output, ctx, states)``."""

from __future__ import annotations

from torch import Tensor, nn

from ablate.model.contract import Context, Parts, Place


class PlainStack(nn.Module):
    """``n_layers`` blocks one after the other, dropout at both ends, and the end norm.

    ``states`` holds the input, the residual stream after each block, and in the last one's place the final output.
    """

    def __init__(self, parts: Parts, place: Place, *, n_layers: int):
        super().__init__()
        blocks = [parts.block(Place(place.stack, layer, n_layers)) for layer in range(n_layers)]
        self.blocks = nn.ModuleList(blocks)
        last = Place(place.stack, n_layers - 1, n_layers, "end")
        self.end = None if blocks[-1].ends_normed else parts.end(last)
        self.dropout = nn.Dropout(parts.dropout)

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context, list[Tensor]]:
        x = self.dropout(x)
        states = [x]
        for block in self.blocks:
            x, ctx = block(x, ctx)
            states.append(x)
        if self.end is not None:
            x = self.end(x, ctx.view)
        x = ctx.view.clear_padding(self.dropout(x))
        states[-1] = x
        return x, ctx, states
