"""The loss on held-out text: the same windows and the same masks for every run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class HeldOutLoss:
    """`loss` in nats a target token; `bits_per_byte` of the text that the targets stand for (None: they stand for none)."""

    loss: float
    bits_per_byte: float | None
    tokens: int
    bytes: int


def heldout_loss(
    model: nn.Module,
    batches: Sequence[dict[str, Tensor]],
    token_bytes: Tensor,
    device: torch.device,
    *,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
    stop: Callable[[], bool] = lambda: False,
) -> HeldOutLoss | None:
    """The mean exact negative log-likelihood of the targets in `batches`; None where `stop` said so on the way.

    `token_bytes` (V,): bytes of text that each id stands for, on `device`. Targets whose weight is 0 do not count.
    `reduce` adds float64 sums over processes that have other batches each. The model is left in training mode.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # nats, tokens, bytes
    model.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                if stop():
                    return None
                batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
                with autocast():
                    _, nll = model.forward(batch)  # never compiled: a second graph costs more than a few batches
                sums += summed(batch, nll, token_bytes[batch["targets"]])
    finally:
        model.train()
    nats, tokens, size = reduce(sums).tolist()
    bits_per_byte = nats / math.log(2) / size if size else None
    return HeldOutLoss(nats / tokens, bits_per_byte, int(tokens), int(size))


def summed(batch: dict[str, Tensor], *amounts: Tensor) -> Tensor:
    """The first amount summed over the targets that count, how many these are, and the sums of further amounts: float64."""
    nll, *more = amounts
    counts = torch.ones_like(nll) if "weights" not in batch else (batch["weights"] > 0).to(nll.dtype)
    return torch.stack([(part * counts).double().sum() for part in (nll, torch.ones_like(nll), *more)])
