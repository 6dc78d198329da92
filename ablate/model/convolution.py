"""Convolutions in place of self-attention (Wu et al. 2019, https://arxiv.org/abs/1901.10430).

    x -> GLU -> clear padding -> each channel over its neighbours -> + b -> pointwise -> output

The kernel of a channel is a softmax over ``width`` taps, in an encoder centred on the token, in a decoder on the token
and those before it. The only position used is one that is added to the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.errors import UserError
from ablate.model.contract import CAUSAL, FULL, Context, Linear, Parts, Place, View, declare
from ablate.ranges import COUNT, Ranges, Relations, required_by


@dataclass(frozen=True)
class Sees:
    """What a convolution reads of a sequence: never padding, perhaps not the start, perhaps one segment only."""

    within_segments: bool
    clear_start: bool

    def cleared(self, x: Tensor, view: View) -> Tensor:
        """x (B,T,C) with zeros where it must not read."""
        x = view.clear_padding(x)
        return x * (view.place_indices() != 0).unsqueeze(-1).to(x.dtype) if self.clear_start else x

    def segments(self, view: View) -> Tensor | None:
        """(B,T), the segments that it must not cross; None if it may."""
        return view.segments if self.within_segments else None


class LightweightConvolution(nn.Module):
    """A kernel for each channel, the same at all positions.

    As the paper's library runs it: there are as many kernels (``n_kernels``) as channels, while Wu et al. share each of
    16 among D/16 neighbouring channels; the kernels are followed by a ``pointwise`` matrix, which Wu et al. do not
    have; ``within_segments`` is false, so that packed examples see each other at their edges; and ``clear_start`` hides
    the start symbol of a decoder (there by its id, which is that of padding). ``cross`` is the attention that reads the
    memory. Raises UserError if an encoder's width is even, and if D is not a multiple of n_kernels.
    """

    ranges: ClassVar[Ranges] = {"width": COUNT, "n_kernels": COUNT}
    relations: ClassVar[Relations] = {"within_segments": required_by("data.document_mask")}
    inner_options: ClassVar[dict[str, str]] = {"cross": "attention"}
    supports: ClassVar[frozenset[str]] = frozenset()
    mask_orders = frozenset({FULL, CAUSAL})

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        width: int,
        n_kernels: int,
        pointwise: bool,
        within_segments: bool,
        clear_start: bool,
        cross: object = None,
    ):
        super().__init__()
        d = parts.d_model
        if d % n_kernels:
            raise UserError(f"attention.n_kernels={n_kernels}: must divide the number of channels, {d}")
        if place.stack == "encoder" and width % 2 == 0:
            raise UserError(f"attention.width={width}: must be odd in an encoder, with as many taps on each side")
        self.width, self.n_kernels = width, n_kernels
        self.sees = Sees(within_segments, clear_start and place.stack == "decoder")
        self.gate = parts.linear(d, d, "gate", place)
        self.up = parts.linear(d, d, "ffn_in", place)
        self.taps = self.make_taps(parts, place)
        self.shift = declare(nn.Parameter(torch.empty(d)), "bias", place=place) if parts.has_bias("ffn_in") else None
        self.pointwise = parts.linear(d, d, "ffn_in", place) if pointwise else None
        self.output = parts.linear(d, d, "ffn_out", place)

    def make_taps(self, parts: Parts, place: Place) -> Any:
        """The parameters or the module that `kernels` computes from; here (width,n_kernels)."""
        taps = nn.Parameter(torch.empty(self.width, self.n_kernels))
        return declare(taps, "taps", fan_in=self.width, fan_out=self.width, place=place)

    def kernels(self, x: Tensor) -> Tensor:
        """The taps before their softmax, (..., width, n_kernels), for x (B,T,D)."""
        taps: Tensor = self.taps
        return taps

    def forward(self, x: Tensor, ctx: Context) -> Tensor:
        x = self.up(x) * self.gate(x).sigmoid()
        weights = self.kernels(x).softmax(-2).to(x.dtype)  # over the taps: (width,n_kernels) or (B,T,width,n_kernels)
        if self.n_kernels != x.shape[-1]:
            weights = weights.repeat_interleave(x.shape[-1] // self.n_kernels, -1)
        ahead = self.width // 2 if ctx.view.order == FULL else 0
        y = neighbours(self.sees.cleared(x, ctx.view), weights, ahead=ahead, segments=self.sees.segments(ctx.view))
        if self.shift is not None:
            y = y + self.shift
        return self.output(y if self.pointwise is None else self.pointwise(y))


class DynamicConvolution(LightweightConvolution):
    """A kernel for each channel and position, linear in the gated input at that position.

    Its ``width`` D x D matrices are most of the layer: the paper's row reduces the feed-forward to a sixth for them.
    """

    def make_taps(self, parts: Parts, place: Place) -> Linear:
        d, out = parts.d_model, self.width * self.n_kernels
        taps = Linear(d, out, role="taps", place=place, bias=parts.has_bias("ffn_in"))
        declare(taps.weight, "taps", fan_in=self.width * d, fan_out=out, place=place)
        return taps

    def kernels(self, x: Tensor) -> Tensor:
        taps: Tensor = self.taps(x).unflatten(-1, (self.width, self.n_kernels))
        return taps


def neighbours(x: Tensor, weights: Tensor, *, ahead: int, segments: Tensor | None = None) -> Tensor:
    """y[t] = sum_i weights[..., i, :] x[t + i + ahead + 1 - width], with zeros beyond the ends and other ``segments``.

    x (B,T,D), weights (width,D) or (B,T,width,D) -> (B,T,D). A sum of shifted products, which compiles to one kernel.
    """
    width, length = weights.shape[-2], x.shape[1]
    behind = width - 1 - ahead
    padded = functional.pad(x, (0, 0, behind, ahead))  # (B,T+width-1,D): x[t + i - behind] is padded[t + i]
    if segments is not None:
        around = functional.pad(segments, (behind, ahead))
    y = torch.zeros_like(x)
    for tap in range(width):
        product = padded[:, tap : tap + length] * weights[..., tap, :]
        if segments is not None:
            product = product * (around[:, tap : tap + length] == segments).unsqueeze(-1).to(x.dtype)
        y = y + product
    return y
