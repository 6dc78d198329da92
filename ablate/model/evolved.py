"""The Evolved Transformer: convolutions and gates besides attention, found by architecture search."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.activation import relu
from ablate.model.block import POST, Block, Step, check_placement
from ablate.model.contract import (
    CROSS_ATTENTION,
    FEEDFORWARD,
    FULL,
    SELF_ATTENTION,
    Context,
    Linear,
    Parts,
    Place,
    declare,
)
from ablate.model.convolution import Sees, neighbours

GATED_UNIT, CONVOLUTIONS = "gated_unit", "convolutions"


class EvolvedBlock(Block):
    """A cell, which counts as two layers, as Narang et al. ran it (So et al. 2019, https://arxiv.org/abs/1901.11117).

        encoder   gated unit -> convolutions -> self-attention -> feed-forward
        decoder   self-attention with twice the heads + cross-attention of the same input -> convolutions
                  -> self-attention -> cross-attention -> feed-forward

    Each arrow is a residual addition with its norm. Without an encoder cross-attention is left out. The YAML also
    selects the decoder's Swish. ``d_wide``, ``d_decoder`` and ``d_narrow`` are the widths inside the convolutions. In
    a decoder these read only earlier tokens. As the paper's library runs it, ``within_segments`` is false, so that
    packed examples see each other at their edges, and ``clear_start`` hides a decoder's start symbol from the
    convolutions.
    """

    layers = 2

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        placement: str,
        d_wide: int,
        d_narrow: int,
        d_decoder: int,
        within_segments: bool,
        clear_start: bool,
    ):
        nn.Module.__init__(self)
        check_placement(placement)
        at = {kind: place.at(kind) for kind in (GATED_UNIT, CONVOLUTIONS, SELF_ATTENTION, CROSS_ATTENTION, FEEDFORWARD)}
        first: dict[str, nn.Module]  # the sub-layers of the first step, by kind; their outputs are summed
        convolutions: nn.Module
        if place.stack == "encoder":
            sees = Sees(within_segments, clear_start=False)
            first = {GATED_UNIT: GatedUnit(parts, at[GATED_UNIT])}
            convolutions = EncoderConvolutions(parts, at[CONVOLUTIONS], sees, d_wide=d_wide, d_narrow=d_narrow)
        else:
            sees = Sees(within_segments, clear_start)
            first = {SELF_ATTENTION: doubled(parts, at[SELF_ATTENTION])}
            convolutions = DecoderConvolutions(parts, at[CONVOLUTIONS], sees, d_wide=d_decoder, d_narrow=d_narrow)
        second: list[dict[str, nn.Module]] = [{SELF_ATTENTION: parts.sublayer(at[SELF_ATTENTION])}]
        if place.stack == "decoder" and len(parts.stacks) > 1:
            first[CROSS_ATTENTION] = parts.sublayer(at[CROSS_ATTENTION])
            second.append({CROSS_ATTENTION: parts.sublayer(at[CROSS_ATTENTION])})
        groups: list[dict[str, nn.Module]] = [
            first,
            {CONVOLUTIONS: convolutions},
            *second,
            {FEEDFORWARD: parts.sublayer(at[FEEDFORWARD])},
        ]
        self.steps = nn.ModuleList(
            Step(parts, [at[kind] for kind in group], list(group.values()), placement) for group in groups
        )
        self.ends_normed = placement == POST


def doubled(parts: Parts, place: Place) -> nn.Module:
    """Attention at `place` with twice the heads, if it has heads."""
    given = parts.factory("attention", place).keywords
    return parts.attention(place, **{name: 2 * given[name] for name in ("n_heads", "n_kv_heads") if name in given})


class GatedUnit(nn.Module):
    """(x W + b) * sigmoid(x V + c), of unchanged width D (Dauphin et al. 2017)."""

    def __init__(self, parts: Parts, place: Place):
        super().__init__()
        self.gate = parts.linear(parts.d_model, parts.d_model, "gate", place)
        self.up = parts.linear(parts.d_model, parts.d_model, "ffn_out", place)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        return self.up(x) * self.gate(x).sigmoid()


class Convolution(nn.Module):
    """y[t] = sum_i W_i x[t + i - width // 2], weight (out, in, width), without a bias: for encoders."""

    def __init__(self, parts: Parts, place: Place, sees: Sees, d_in: int, d_out: int, *, width: int):
        super().__init__()
        weight = nn.Parameter(torch.empty(d_out, d_in, width))
        self.weight = declare(weight, "glorot", fan_in=width * d_in, fan_out=width * d_out, place=place)
        self.sees = sees

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x, width = self.sees.cleared(x, ctx.view).transpose(1, 2), self.weight.shape[-1]  # (B,D_in,T), as conv1d reads
        segments = self.sees.segments(ctx.view)
        if segments is None:
            return functional.conv1d(x, self.weight, padding=width // 2).transpose(1, 2)
        # Tap by tap, each without the tokens of other segments: (B,T+width-1) and (B,D_in,T+width-1) are sliced to T.
        around, length = functional.pad(segments, (width // 2, width // 2)), x.shape[-1]
        x = functional.pad(x, (width // 2, width // 2))
        y = x.new_zeros(())
        for tap in range(width):
            same = (around[:, tap : tap + length] == segments).unsqueeze(1).to(x.dtype)
            y = y + functional.conv1d(x[..., tap : tap + length] * same, self.weight[..., tap : tap + 1])
        return y.transpose(1, 2)


class Separable(nn.Module):
    """A depthwise convolution, taps (width, in), then a projection: both with a bias (Chollet 2017)."""

    def __init__(self, parts: Parts, place: Place, sees: Sees, d_in: int, d_out: int, *, width: int, role: str):
        super().__init__()
        self.taps = declare(nn.Parameter(torch.empty(width, d_in)), "taps", fan_in=width, fan_out=width, place=place)
        biased = parts.has_bias(role)
        self.shift = declare(nn.Parameter(torch.empty(d_in)), "bias", place=place) if biased else None
        self.pointwise = parts.linear(d_in, d_out, role, place)
        self.sees = sees

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        ahead = len(self.taps) // 2 if ctx.view.order == FULL else 0
        x = self.sees.cleared(x, ctx.view)
        y = neighbours(x, self.taps.to(x.dtype), ahead=ahead, segments=self.sees.segments(ctx.view))
        return self.pointwise(y if self.shift is None else y + self.shift)


class EncoderConvolutions(nn.Module):
    """relu(x W) and relu(convolution over 3), added, normed, then a separable convolution over 9.

    x -+-> W, relu (d_wide) -----------------------+-> + -> norm -> separable 9 (d_narrow, zeros up to D)
       +-> convolution 3, relu (d_narrow, zeros) --+
    """

    def __init__(self, parts: Parts, place: Place, sees: Sees, *, d_wide: int, d_narrow: int):
        super().__init__()
        d = parts.d_model
        if d_narrow > min(d, d_wide):
            raise UserError(f"block.d_narrow={d_narrow}: must be at most d_wide={d_wide} and d_model={d}")
        self.wide = Linear(d, d_wide, role="ffn_in", place=place)  # without a bias in the library
        self.narrow = Convolution(parts, place, sees, d, d_narrow, width=3)
        self.norm = parts.norm(place, d_wide)
        self.separable = Separable(parts, place, sees, d_wide, d_narrow, width=9, role="ffn_out")
        self.dropout = nn.Dropout(parts.dropout)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        wide = self.dropout(relu(self.wide(x)))
        narrow = self.dropout(relu(self.narrow(x, ctx)))
        h = self.norm(add_first(wide, narrow), ctx.view)
        y = self.separable(h, ctx)
        return functional.pad(y, (0, x.shape[-1] - y.shape[-1]))


class DecoderConvolutions(nn.Module):
    """relu(separable convolution over 11) and a separable convolution over 7, added, normed, and one more over 7.

    x -+-> separable 11, relu (d_wide) ----+-> + -> norm -> separable 7
       +-> separable 7 (d_narrow, zeros) --+
    """

    def __init__(self, parts: Parts, place: Place, sees: Sees, *, d_wide: int, d_narrow: int):
        super().__init__()
        d = parts.d_model
        if d_narrow > d_wide:
            raise UserError(f"block.d_narrow={d_narrow}: must be at most d_decoder={d_wide}")
        self.wide = Separable(parts, place, sees, d, d_wide, width=11, role="ffn_in")
        self.narrow = Separable(parts, place, sees, d, d_narrow, width=7, role="ffn_in")
        self.norm = parts.norm(place, d_wide)
        self.separable = Separable(parts, place, sees, d_wide, d, width=7, role="ffn_out")
        self.dropout = nn.Dropout(parts.dropout)

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        wide = self.dropout(relu(self.wide(x, ctx)))
        narrow = self.dropout(self.narrow(x, ctx))
        y: Tensor = self.separable(self.norm(add_first(wide, narrow), ctx.view), ctx)
        return y


def add_first(wide: Tensor, narrow: Tensor) -> Tensor:
    """`narrow` (B,T,d_narrow), padded with zeros to the width of `wide` (B,T,d_wide), added to it."""
    return wide + functional.pad(narrow, (0, wide.shape[-1] - narrow.shape[-1]))
