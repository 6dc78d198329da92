"""The held-out loss as a function of the position in the sequence: how much a model gains from what it has read."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.evaluation.contract import Batch, Context, Evaluation
from ablate.ranges import AMOUNT, COUNT, Ranges, check
from ablate.run.score import Curve, Score

NAME = "loss_by_position"


class LossByPosition(Evaluation):
    """The mean nats a target token in `bins` equal stretches of the target positions, on `tokens` input tokens
    drawn evenly from all of the held-out text; windows and masks follow from `seed`.

    The score is the loss in the last stretch that has targets, with its standard error over sequences; the curve has
    each stretch's loss at its last position, counted from 1. Weighted by their targets the losses add up to the
    held-out loss over the same tokens.
    """

    ranges: ClassVar[Ranges] = {"bins": COUNT, "tokens": AMOUNT}

    def __init__(self, *, bins: int, tokens: int, seed: int):
        check(type(self), "evaluation.by_position", bins=bins)
        self.bins, self.tokens, self.seed = bins, tokens, seed

    def evaluate(self, model: nn.Module, context: Context) -> dict[str, Score]:
        """The score `loss_by_position`; raises `UserError` where the targets have fewer positions than bins."""
        batches = context.heldout(self.tokens, self.seed)
        length = batches[0]["targets"].shape[1] if batches else 0
        sums = torch.zeros(6, self.bins, dtype=torch.float64, device=context.device)
        for batch in batches:
            context.check_stop()
            batch = context.on_device(batch)
            with context.autocast():
                _, nll = model.forward(batch)  # never compiled, as for the held-out loss
            sums += moments(*by_sequence(batch, nll, self.bins))
        return {NAME: score(context.total(sums).cpu(), length)}


def by_sequence(batch: Batch, nll: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """The nats and the number of the targets that count, of each sequence in each bin: two float64 tensors (B,bins).

    `nll` (B,T); position t belongs to bin floor(t bins / T). Targets whose weight is 0 do not count.
    """
    length = nll.shape[1]
    if bins > length:
        raise UserError(f"evaluation.by_position.bins={bins}: the targets have no more than {length} positions")
    counts = torch.ones_like(nll) if "weights" not in batch else (batch["weights"] > 0).to(nll.dtype)
    bin_of = torch.arange(length, device=nll.device) * bins // length  # (T,)
    nats = nll.new_zeros(len(nll), bins, dtype=torch.float64).index_add_(1, bin_of, (nll * counts).double())
    return nats, torch.zeros_like(nats).index_add_(1, bin_of, counts.double())


def moments(nats: Tensor, counts: Tensor) -> Tensor:
    """What `score` needs of sequences, as sums over them, which add up over batches and processes: (6,bins).

    In the order of the rows: nats n, targets c, n², n c, c², and the number of sequences with a target in the bin.
    """
    parts = (nats, counts, nats * nats, nats * counts, counts * counts, (counts > 0).double())
    return torch.stack([part.sum(0) for part in parts])


def score(sums: Tensor, length: int) -> Score:
    """The score that follows from the `moments` (6,bins) of all sequences, whose targets have `length` positions."""
    nats, counts, nats2, both, counts2, sequences = sums
    bins = sums.shape[1]
    loss = nats / counts
    # The standard error of a ratio of sums, r = Σn / Σc, over N sequences: the residuals n - r c have the mean 0, so
    # SE² = N / (N - 1) Σ(n - r c)² / (Σc)², with Σ(n - r c)² = Σn² - 2 r Σn c + r² Σc². All of them are (bins,).
    residuals = (nats2 - 2 * loss * both + loss * loss * counts2).clamp(min=0)
    error = (sequences / (sequences - 1) * residuals).sqrt() / counts
    ends = [-(-(number + 1) * length // bins) for number in range(bins)]
    there = [number for number in range(bins) if counts[number] > 0]
    last = there[-1]
    return Score(
        loss[last].item(),
        "nats a token",
        higher_is_better=False,
        items=int(counts[last]),
        standard_error=error[last].item() if sequences[last] > 1 else None,
        curve=Curve("position", tuple(ends[number] for number in there), tuple(loss[there].tolist())),
    )
