"""A block: the steps ``(x, ctx) -> (x, ctx)`` of one layer.

serial     x -> [norm -> attention -> +] -> [norm -> feed-forward -> +]
parallel   x -> norm -+-> attention ----+-> + x
                      +-> feed-forward -+
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from ablate.errors import UserError, nearest
from ablate.model.contract import CROSS_ATTENTION, Context, Parts, Place

PRE, POST, SANDWICH = "pre", "post", "sandwich"


class Step(nn.Module):
    """One residual addition around one or more sub-layers, whose outputs are summed, with its norms.

    ``pre``: x + f(norm(x)), the paper's; ``post``: norm(x + f(x)), Vaswani et al. 2017; ``sandwich``:
    x + norm(f(norm(x))), Ding et al. 2021. Padding is set to zero before the sub-layer.
    """

    incremental = True

    def __init__(self, parts: Parts, places: Sequence[Place], sublayers: Iterable[nn.Module], placement: str):
        super().__init__()
        self.kinds = tuple(place.sublayer for place in places)
        self.norm = parts.norm(places[0])
        self.norm_after = parts.norm(places[0]) if placement == SANDWICH else None
        self.sublayers = nn.ModuleList(sublayers)
        self.residual = parts.residual(places[0])
        self.dropout = nn.Dropout(parts.dropout)
        self.placement = placement

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context]:
        if self.placement == POST:
            x = self.norm(self.residual(x, lambda h: self._branch(h, ctx), ctx.view), ctx.view)
        else:
            x = self.residual(x, lambda h: self._branch(self.norm(h, ctx.view), ctx), ctx.view)
        return x, ctx

    def _branch(self, h: Tensor, ctx: Context) -> Tensor:
        h = ctx.view.clear_padding(h)
        y = self.sublayers[0](h, ctx)
        for sublayer in self.sublayers[1:]:
            y = y + sublayer(h, ctx)
        if self.norm_after is not None:
            y = self.norm_after(y, ctx.view)
        dropped: Tensor = self.dropout(y)
        return dropped


def check_placement(placement: str) -> None:
    """Raise UserError for an unknown placement of norms."""
    choices = (PRE, POST, SANDWICH)
    if placement not in choices:
        raise UserError(
            f"block.placement={placement}: must be one of {', '.join(choices)}{nearest(placement, choices)}"
        )


class Block(nn.Module):
    """A layer as a list of steps; ``sublayers`` names, for each stack, what it consists of.

    Cross-attention is left out if the model has no encoder. Raises UserError for an unknown placement, for
    cross-attention in an encoder, and if no sub-layer is left.
    """

    layers = 1  # of a stack that one block counts as
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, placement: str, sublayers: Mapping[str, Sequence[str]]):
        super().__init__()
        check_placement(placement)
        if place.stack == "encoder" and CROSS_ATTENTION in sublayers["encoder"]:
            raise UserError(
                f"block.sublayers.encoder: {CROSS_ATTENTION} is for decoders; an encoder has no memory to attend to"
            )
        kinds = [kind for kind in sublayers[place.stack] if kind != CROSS_ATTENTION or len(parts.stacks) > 1]
        if not kinds:
            raise UserError(f"block.sublayers.{place.stack}: must name at least one sub-layer")
        groups = [[place.at(kind) for kind in group] for group in self.group(kinds)]
        self.steps = nn.ModuleList(Step(parts, group, map(parts.sublayer, group), placement) for group in groups)
        self.ends_normed = placement == POST

    @staticmethod
    def group(kinds: Sequence[str]) -> list[Sequence[str]]:
        """Which sub-layers share a step: each has its own."""
        return [[kind] for kind in kinds]

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context]:
        for step in self.steps:
            x, ctx = step(x, ctx)
        return x, ctx


class ParallelBlock(Block):
    """All sub-layers read the same normed input and are added in one step (Wang and Komatsuzaki 2021, GPT-J; PaLM)."""

    incremental = True

    @staticmethod
    def group(kinds: Sequence[str]) -> list[Sequence[str]]:
        return [kinds]
