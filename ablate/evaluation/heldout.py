"""The loss on held-out text: the same windows and the same masks for every run. It is part of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ablate.evaluation.contract import BITS_PER_BYTE, LOSS, Context, Evaluation, StopRequested, evaluating
from ablate.ranges import AMOUNT, Ranges
from ablate.run.score import Score


class HeldOut(Evaluation):
    """The loss in nats a target token and, where the targets stand for text, in bits a byte, on `tokens`
    input tokens drawn evenly from all of the held-out text; windows and masks follow from `seed`."""

    ranges: ClassVar[Ranges] = {"tokens": AMOUNT}

    def __init__(self, *, tokens: int, seed: int):
        self.tokens, self.seed = tokens, seed

    def evaluate(self, model: nn.Module, context: Context) -> dict[str, Score]:
        """The scores `LOSS` and `BITS_PER_BYTE`."""
        found = heldout_loss(
            model,
            context.heldout(self.tokens, self.seed),
            context.token_bytes,
            context.device,
            autocast=context.autocast,
            reduce=context.total,
            stop=context.stop,
        )
        if found is None:
            raise StopRequested
        return found.scores()


@dataclass(frozen=True)
class HeldOutLoss:
    """`loss` in nats a target token; `bits_per_byte` of the text that the targets stand for, None for no text."""

    loss: float
    bits_per_byte: float | None
    tokens: int
    bytes: int

    def scores(self) -> dict[str, Score]:
        """The same as scores by name."""
        scores = {LOSS: Score(self.loss, "nats a token", higher_is_better=False, items=self.tokens)}
        if self.bits_per_byte is not None:
            scores[BITS_PER_BYTE] = Score(self.bits_per_byte, "bits a byte", higher_is_better=False, items=self.bytes)
        return scores


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
    `reduce` adds float64 sums over processes that have other batches each. The model keeps its mode.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # nats, tokens, bytes
    with evaluating(model):
        for batch in batches:
            if stop():
                return None
            batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
            with autocast():
                _, nll = model.forward(batch)  # never compiled: a second graph costs more than a few batches
            sums += summed(batch, nll, token_bytes[batch["targets"]])
    nats, tokens, size = reduce(sums).tolist()
    bits_per_byte = nats / math.log(2) / size if size else None
    return HeldOutLoss(nats / tokens, bits_per_byte, int(tokens), round(size))


def summed(batch: dict[str, Tensor], *amounts: Tensor) -> Tensor:
    """Over the targets that count: the sum of the first amount, their number, the sums of further amounts; float64."""
    nll, *more = amounts
    counts = torch.ones_like(nll) if "weights" not in batch else (batch["weights"] > 0).to(nll.dtype)
    return torch.stack([(part * counts).double().sum() for part in (nll, torch.ones_like(nll), *more)])
