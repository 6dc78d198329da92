"""Normalisation: ``norm(x (B,T,D), view) -> (B,T,D)``."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from ablate.model.contract import Parts, Place, View, declare
from ablate.ranges import COUNT, FRACTION, POSITIVE, AddedKeys, Ranges, Relations, only_with


class Norm(nn.Module):
    """The base of every norm, with what it declares.

    uses_batch_statistics: whether a token's result depends on other tokens of the batch.
    caution: what is said where a model with this norm starts far from a uniform guess; mostly nothing.
    """

    uses_batch_statistics = False
    token_wise = True  # in evaluation
    caution = ""


class LayerNorm(Norm):
    """Layer normalisation: mean 0 and variance 1, times a gain, plus a bias (Ba et al. 2016, https://arxiv.org/abs/1607.06450).

    ``gain`` and ``bias``: whether there is one (PaLM and ModernBERT have no bias, OLMo has neither).
    ``offset`` is added to the gain, whose parameter then starts at 1 - offset. ``float32``: in a lower precision too,
    gain and bias are applied in float32 and the result is rounded once, to the precision of the input; without it each
    step is computed as torch's kernel does.
    """

    ranges: ClassVar[Ranges] = {"eps": POSITIVE}
    relations: ClassVar[Relations] = {"offset": only_with("gain")}
    added_keys: ClassVar[AddedKeys] = {"gain": True, "bias": True, "offset": 0.0, "float32": False}

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        eps: float,
        gain: bool = True,
        bias: bool = True,
        offset: float = 0.0,
        float32: bool = False,
        width: int | None = None,
    ):
        super().__init__()
        width = width or parts.d_model
        self.scale = gain_at(place, width, offset, "constant" if offset else "scale") if gain else None
        self.shift = declare(nn.Parameter(torch.empty(width)), "bias", place=place) if bias else None
        self.width, self.eps, self.offset, self.float32 = width, eps, offset, float32

    def forward(self, x: Tensor, view: View) -> Tensor:
        gain, shift = weights_of(self)
        if not self.float32:
            return nn.functional.layer_norm(x, (self.width,), gain, shift, self.eps)
        return nn.functional.layer_norm(x.float(), (self.width,), gain, shift, self.eps).to(x.dtype)


class RMSNorm(Norm):
    """Root-mean-square normalisation (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467).

    ``gain`` and ``bias``: whether there is one. ``offset`` is added to the gain, whose parameter then starts at
    1 - offset (Gemma's ``1 + w``). ``float32``: in a lower precision too, gain and bias are applied in float32 and the
    result is rounded once, to the precision of the input (Gemma).
    """

    ranges: ClassVar[Ranges] = {"eps": POSITIVE}
    relations: ClassVar[Relations] = {"offset": only_with("gain")}
    added_keys: ClassVar[AddedKeys] = {"gain": True, "bias": False, "float32": False}

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        eps: float,
        gain: bool = True,
        bias: bool = False,
        offset: float = 0.0,
        float32: bool = False,
        width: int | None = None,
    ):
        super().__init__()
        width = width or parts.d_model
        self.scale = gain_at(place, width, offset, "constant") if gain else None
        self.shift = declare(nn.Parameter(torch.empty(width)), "bias", place=place) if bias else None
        self.width, self.eps, self.offset, self.float32 = width, eps, offset, float32

    def forward(self, x: Tensor, view: View) -> Tensor:
        gain, shift = weights_of(self)
        given = x.dtype
        if self.float32:
            x = x.float()
        elif gain is not None:
            x = x.to(gain.dtype)  # a sub-layer's output under autocast: torch's fused kernel wants a single dtype
        y = nn.functional.rms_norm(x, (self.width,), gain, self.eps)
        y = y if shift is None else y + shift
        return y.to(given) if self.float32 else y


def gain_at(place: Place, width: int, offset: float, role: str) -> nn.Parameter:
    """A norm's gain (D,) less its offset."""
    return declare(nn.Parameter(torch.empty(width)), role, value=1.0 - offset, place=place)


def weights_of(norm: LayerNorm | RMSNorm) -> tuple[Tensor | None, Tensor | None]:
    """What a norm multiplies by, its offset added, and what it then adds: each (D,), or None; float32 if it says so."""
    gain: Tensor | None = norm.scale
    shift: Tensor | None = norm.shift
    if norm.float32:
        gain, shift = (None if tensor is None else tensor.float() for tensor in (gain, shift))
    return (gain if gain is None or not norm.offset else gain + norm.offset), shift


class PartialRMSNorm(Norm):
    """RMS norm whose statistic is that of the first ``fraction`` of the channels: Narang et al.'s released setting.

    A mean of so few squares, 4 of 48 channels at shape=nano, is next to nothing for some token, whose other channels
    then are hundreds of times its size, and float32's rounding with them. Against float64, with initial values of three
    seeds, the root mean square of the logits' error is 1e-5 to 2e-3, of a token's loss at most 2e-5 to 2e-2; with
    rmsnorm 2e-6 and 2e-6. Runs that should agree closely (another device, another number of threads) agree less.
    """

    ranges: ClassVar[Ranges] = {"eps": POSITIVE, "fraction": FRACTION}

    def __init__(self, parts: Parts, place: Place, *, eps: float, fraction: float, width: int | None = None):
        super().__init__()
        width = width or parts.d_model
        self.scale = declare(nn.Parameter(torch.empty(width)), "scale", place=place)
        self.eps, self.channels = eps, math.ceil(fraction * width)

    def forward(self, x: Tensor, view: View) -> Tensor:
        mean_square = x[..., : self.channels].float().square().mean(-1, keepdim=True)
        return (x * torch.rsqrt(mean_square + self.eps)).to(x.dtype) * self.scale


class ScaleNorm(Norm):
    """x g / |x|, with one scalar g, initially sqrt(D) (Nguyen and Salazar 2019, https://arxiv.org/abs/1910.05895)."""

    ranges: ClassVar[Ranges] = {"eps": POSITIVE}

    def __init__(self, parts: Parts, place: Place, *, eps: float, width: int | None = None):
        super().__init__()
        self.scale = declare(
            nn.Parameter(torch.empty(1)), "constant", value=math.sqrt(width or parts.d_model), place=place
        )
        self.eps = eps

    def forward(self, x: Tensor, view: View) -> Tensor:
        length: Tensor = x.float().norm(dim=-1, keepdim=True).clamp_min(self.eps)
        return (x / length).to(x.dtype) * self.scale


class BatchNorm(Norm):
    """Batch normalisation over all tokens that are not padding (Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167).

    For encoders only: a token's statistics include the tokens after it, which a decoder must not see.
    Evaluation uses running averages of the training statistics, for the variance of its unbiased estimate, as in torch.
    Statistics are those of the ``sequences`` that a device processes at once in training, which is not a size of the
    model.
    """

    ranges: ClassVar[Ranges] = {"eps": POSITIVE, "sequences": COUNT}
    uses_batch_statistics = True
    running = ("mean", "variance")  # of a step: averaged over the slices of its global batch
    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        eps: float,
        momentum: float,
        sequences: int | None = None,
        width: int | None = None,
    ):
        super().__init__()
        self.sequences = sequences
        width = width or parts.d_model
        self.scale = declare(nn.Parameter(torch.empty(width)), "scale", place=place)
        self.shift = declare(nn.Parameter(torch.empty(width)), "bias", place=place)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor, view: View) -> Tensor:
        if self.training:
            mean, variance, count = self._statistics(x.float(), view.present)
            with torch.no_grad():
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance * (count / (count - 1).clamp_min(1.0)), self.momentum)
        else:
            mean, variance = self.mean, self.variance
        return ((x - mean) * torch.rsqrt(variance + self.eps)).to(x.dtype) * self.scale + self.shift

    @staticmethod
    def _statistics(x: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B,T,D) -> mean (D,) and variance (D,) over the tokens that are not padding, and how many these are."""
        if present is None:
            variance, mean = torch.var_mean(x, (0, 1), unbiased=False)
            return mean, variance, x.new_tensor(x.shape[0] * x.shape[1])
        weight = present.unsqueeze(-1).to(x.dtype)
        count = weight.sum().clamp_min(1.0)
        mean = (x * weight).sum((0, 1)) / count
        return mean, ((x - mean).square() * weight).sum((0, 1)) / count, count


class NoNorm(Norm):
    """No normalisation.

    With ``residual=plain`` and the paper's initial values the residual stream grows from layer to layer: at shape=nano
    (six layers) the first loss is 20 to 800 nats, and not finite with an activation that multiplies (gated ones,
    squared ReLU). With what ``caution`` names it is within a third of ln V for every activation, measured there.
    """

    caution = (
        "nothing keeps the size of the hidden states with norm=none; "
        "residual=rezero, residual=fixup, init=fixup or init=gpt2 do"
    )

    def __init__(self, parts: Parts, place: Place, *, width: int | None = None):
        super().__init__()

    def forward(self, x: Tensor, view: View) -> Tensor:
        return x
