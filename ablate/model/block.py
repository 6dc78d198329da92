"""A block: the steps ``(x, ctx) -> (x, ctx)`` of one layer.

serial     x -> [norm -> attention -> +] -> [norm -> feed-forward -> +]
parallel   x -> norm -+-> attention ----+-> + x      or, with separate norms,   x -+-> norm -> attention ----+-> + x
                      +-> feed-forward -+                                          +-> norm -> feed-forward -+
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ablate.errors import UserError, nearest
from ablate.model.contract import CROSS_ATTENTION, Context, Parts, Place
from ablate.ranges import FLAG, AddedKeys, Ranges

PRE, POST, SANDWICH, RES_POST = "pre", "post", "sandwich", "res_post"
NORMED_BEFORE = (PRE, SANDWICH)  # the placements with a norm in front of a sub-layer
NORMED_WITHIN = (SANDWICH, RES_POST)  # and those with one behind it, before its output is added


class Step(nn.Module):
    """One residual addition around one or more sub-layers, whose outputs are summed, with its norms.

    ``pre``: x + f(norm(x)), the paper's; ``post``: norm(x + f(x)), Vaswani et al. 2017; ``sandwich``:
    x + norm(f(norm(x))), Ding et al. 2021; ``res_post``: x + norm(f(x)), Liu et al. 2022
    (https://arxiv.org/abs/2111.09883). Padding is set to zero before the sub-layer. ``reads_normed`` false: a norm in
    front is left out. ``separate_norms``: each sub-layer has its own norm in front; raises UserError where the
    placement has none there.
    """

    incremental = True

    def __init__(
        self,
        parts: Parts,
        places: Sequence[Place],
        sublayers: Iterable[nn.Module],
        placement: str,
        *,
        reads_normed: bool = True,
        separate_norms: bool = False,
    ):
        super().__init__()
        self.kinds = tuple(place.sublayer for place in places)
        before = placement in NORMED_BEFORE
        self.norm = parts.norm(places[0]) if placement == POST or (before and reads_normed) else None
        self.norm_after = parts.norm(places[0]) if placement in NORMED_WITHIN else None
        self.sublayers = nn.ModuleList(sublayers)
        if separate_norms:
            if not before:
                raise UserError(
                    f"block.separate_norms=true: block.placement={placement} has no norm in front of a sub-layer; "
                    f"choose block.placement={' or '.join(NORMED_BEFORE)}"
                )
            self.other_norms = nn.ModuleList(parts.norm(place) for place in places[1:])
        self.separate_norms = separate_norms
        self.residual = parts.residual(places[0])
        self.dropout = nn.Dropout(parts.dropout)
        self.placement = placement

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context]:
        x = self.residual(x, lambda h: self._branch(h, ctx), ctx.view)
        if self.placement == POST and self.norm is not None:
            x = self.norm(x, ctx.view)
        return x, ctx

    def _branch(self, x: Tensor, ctx: Context) -> Tensor:
        norm = None if self.placement == POST else self.norm
        h = self._normed(norm, x, ctx)
        y = self.sublayers[0](h, ctx)
        for number, sublayer in enumerate(self.sublayers[1:]):
            y = y + sublayer(self._normed(self.other_norms[number], x, ctx) if self.separate_norms else h, ctx)
        if self.norm_after is not None:
            y = self.norm_after(y, ctx.view)
        dropped: Tensor = self.dropout(y)
        return dropped

    @staticmethod
    def _normed(norm: nn.Module | None, x: Tensor, ctx: Context) -> Tensor:
        return ctx.view.clear_padding(x if norm is None else norm(x, ctx.view))


def check_placement(placement: str) -> None:
    """Raise UserError for an unknown placement of norms."""
    choices = (PRE, POST, SANDWICH, RES_POST)
    if placement not in choices:
        raise UserError(
            f"block.placement={placement}: must be one of {', '.join(choices)}{nearest(placement, choices)}"
        )


class Block(nn.Module):
    """A layer as a list of steps; ``sublayers`` names, for each stack, what it consists of.

    Cross-attention is left out if the model has no encoder. ``first_norm`` false: the first step of the first layer
    reads its input without a norm in front, as it is normed behind the embedding (ModernBERT, Warner et al. 2024,
    https://arxiv.org/abs/2412.13663). ``final_norm``: whether there is a norm behind the last layer; null: unless
    ``placement`` is post. Raises UserError for an unknown placement, for cross-attention in an encoder, if no sub-layer
    is left, and for first_norm=false where no norm is in front or the layers share it.
    """

    ranges: ClassVar[Ranges] = {"final_norm": FLAG}
    added_keys: ClassVar[AddedKeys] = {"first_norm": True, "final_norm": None}
    layers = 1  # of a stack that one block counts as
    incremental = True
    separate_norms = False

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        placement: str,
        sublayers: Mapping[str, Sequence[str]],
        first_norm: bool = True,
        final_norm: bool | None = None,
    ):
        super().__init__()
        check_placement(placement)
        if place.stack == "encoder" and CROSS_ATTENTION in sublayers["encoder"]:
            raise UserError(
                f"block.sublayers.encoder: {CROSS_ATTENTION} is for decoders; an encoder has no memory to attend to"
            )
        kinds = [kind for kind in sublayers[place.stack] if kind != CROSS_ATTENTION or len(parts.stacks) > 1]
        if not kinds:
            raise UserError(f"block.sublayers.{place.stack}: must name at least one sub-layer")
        if not first_norm:
            check_first_norm(parts, place, placement)
        groups = [[place.at(kind) for kind in group] for group in self.group(kinds)]
        self.steps = nn.ModuleList(
            Step(
                parts,
                group,
                map(parts.sublayer, group),
                placement,
                reads_normed=first_norm or place.layer > 0 or number > 0,
                separate_norms=self.separate_norms,
            )
            for number, group in enumerate(groups)
        )
        self.ends_normed = placement == POST if final_norm is None else not final_norm

    @staticmethod
    def group(kinds: Sequence[str]) -> list[Sequence[str]]:
        """Which sub-layers share a step: each has its own."""
        return [[kind] for kind in kinds]

    def forward(self, x: Tensor, ctx: Context) -> tuple[Tensor, Context]:
        for step in self.steps:
            x, ctx = step(x, ctx)
        return x, ctx


def check_first_norm(parts: Parts, place: Place, placement: str) -> None:
    """Raise UserError where the first layer has no norm of its own in front, which could be left out."""
    if placement not in NORMED_BEFORE:
        raise UserError(
            f"block.first_norm=false: block.placement={placement} has no norm in front of a sub-layer; "
            f"choose block.placement={' or '.join(NORMED_BEFORE)}"
        )
    repeats = {
        f"sharing.{place.stack}=true": parts.slots["sharing"][place.stack],
        f"stack.{place.stack} repeating its layers": parts.slots["stack"][place.stack].func.repeats,
    }
    if reasons := [reason for reason, holds in repeats.items() if holds]:
        raise UserError(
            f"block.first_norm=false: with {' and '.join(reasons)} the first layer is others, too, and none of these "
            "would have that norm"
        )


class ParallelBlock(Block):
    """All sub-layers read the same input, normed, and are added in one step (Wang and Komatsuzaki 2021, GPT-J; PaLM).

    ``separate_norms``: each sub-layer has a norm of its own (GPT-NeoX, Black et al. 2022,
    https://arxiv.org/abs/2204.06745; Falcon 40B); else one is for all. Dropout is that of the sum.
    """

    added_keys: ClassVar[AddedKeys] = {"separate_norms": False}
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, separate_norms: bool = False, **settings: Any):
        self.separate_norms = separate_norms
        super().__init__(parts, place, **settings)

    @staticmethod
    def group(kinds: Sequence[str]) -> list[Sequence[str]]:
        return [kinds]
