"""The loss of a softmax over a large vocabulary, from hidden states and matrix, without all the logits at once.

Both gradients are made in the forward pass, one chunk of tokens after the other, while its logits are in the cache: the
technique of Wijmans et al. 2024 (https://arxiv.org/abs/2411.09009) and Hsu et al. 2024
(https://arxiv.org/abs/2410.10989) in plain torch, without computing anything twice. For this the weight of each token
in the loss must be known beforehand, so the result is the sum and not the loss of each token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Logits of a batch, B T V, from which on the output layer does not make them all at once. The last bits of a product
# depend on how many tokens it has, so this is above what any committed record's steps have; with fewer, little is won.
FROM_LOGITS = 1 << 24
CHUNK_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 26}  # of one chunk: 16 MiB on a CPU; on a GPU few kernels, 256 MiB


def linear_cross_entropy(
    hidden: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weights: Tensor | None,
    *,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    soft_cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean loss, a scalar, and each token's nll (B,T).

    For hidden (B,T,D), matrix (V,D), bias (V,), targets (B,T) and weights (B,T). Logits are capped by `soft_cap`.

    The same as `ablate.model.head.Softmax` in training, times ``weights``, averaged over all B T tokens. The nll has no
    gradient.
    """
    tokens, labels = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    share = tokens.new_full(labels.shape, 1.0 / labels.numel(), dtype=_exact(hidden.dtype))  # of a token in the mean
    if weights is not None:
        share = share * weights.reshape(-1)
    mean, nll = _LinearCrossEntropy.apply(tokens, matrix, bias, labels, share, z_loss, label_smoothing, soft_cap)
    return mean, nll.view(targets.shape)


def linear_nll(
    hidden: Tensor, matrix: Tensor, bias: Tensor | None, targets: Tensor, *, soft_cap: float | None = None
) -> Tensor:
    """Each token's negative log-likelihood (B,T), where there is no backward pass."""
    tokens, labels = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    size = chunk_size(matrix)
    nll = [
        _nll(capped(functional.linear(some, matrix, bias), soft_cap), own)[0]
        for some, own in zip(tokens.split(size), labels.split(size), strict=True)
    ]
    return torch.cat(nll).view(targets.shape)


def capped(logits: Tensor, soft_cap: float | None) -> Tensor:
    """c tanh(z / c), between -c and c, and near z where z is small (Gemma 2, https://arxiv.org/abs/2408.00118)."""
    return logits if soft_cap is None else soft_cap * torch.tanh(logits / soft_cap)


def chunk_size(matrix: Tensor) -> int:
    """The number of tokens of a chunk."""
    return max(1, CHUNK_LOGITS["cpu" if matrix.device.type == "cpu" else "cuda"] // matrix.shape[0])


def _product_dtype(x: Tensor) -> torch.dtype:
    """In what a product of `x` is computed: autocast's choice, where it is on."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _nll(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N,V), labels (N,) -> nll (N,), log of the normaliser (N,), and the logits in float32 or better."""
    logits = logits.to(_exact(logits.dtype))
    normaliser = logits.logsumexp(-1)
    return normaliser - logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1), normaliser, logits


class _LinearCrossEntropy(torch.autograd.Function):
    """Tokens (N,D), their labels (N,) and shares (N,) -> the sum of share times loss, a scalar, and each nll (N,)."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        share: Tensor,
        z_loss: float,
        label_smoothing: float,
        soft_cap: float | None,
    ) -> tuple[Tensor, Tensor]:
        size, vocab_size, dtype = chunk_size(matrix), matrix.shape[0], _product_dtype(tokens)
        columns, offset = matrix.to(dtype), None if bias is None else bias.to(dtype)
        total, each_nll, of_tokens = share.new_zeros(()), [], []
        of_matrix = torch.zeros_like(matrix)
        of_bias = None if bias is None else torch.zeros_like(bias)
        for some, own, part in zip(tokens.to(dtype).split(size), labels.split(size), share.split(size), strict=True):
            nll, normaliser, scores = _nll(capped(functional.linear(some, columns, offset), soft_cap), own)
            each_nll.append(nll)
            loss = nll
            if label_smoothing:
                loss = torch.lerp(loss, normaliser - scores.mean(-1), label_smoothing)
            if z_loss:
                loss = loss + z_loss * normaliser.square()
            total = total + (loss * part).sum()
            # The slope of a token's logits: softmax (1 + 2 z log Z) - (1 - s) [its label] - s / V, times its share.
            of_cap = None if soft_cap is None else 1.0 - (scores / soft_cap).square()  # the slope of the cap itself
            factor = part * (1.0 + 2.0 * z_loss * normaliser) if z_loss else part
            slope = scores.sub_(normaliser.unsqueeze(-1)).exp_().mul_(factor.unsqueeze(-1))
            slope.scatter_add_(-1, own.unsqueeze(-1), ((label_smoothing - 1.0) * part).unsqueeze(-1))
            if label_smoothing:
                slope.sub_((label_smoothing / vocab_size * part).unsqueeze(-1))
            if of_cap is not None:
                slope.mul_(of_cap)
            if of_bias is not None:
                of_bias += slope.sum(0)
            slope = slope.to(dtype)
            of_tokens.append(slope @ columns)
            if dtype == matrix.dtype:
                of_matrix.addmm_(slope.t(), some)
            else:
                of_matrix += slope.t() @ some
        ctx.save_for_backward(torch.cat(of_tokens).to(tokens.dtype), of_matrix, of_bias)
        nll = torch.cat(each_nll)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor, _of_nll: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (None if slope is None else slope * of_total for slope in ctx.saved_tensors)
        return (*gradients, None, None, None, None, None)
