"""The held-out loss as a function of the position in the sequence: how much a model gains from what it has read."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ablate.errors import UserError
from ablate.evaluation import binned
from ablate.evaluation.binned import Means
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
        sums = torch.zeros(binned.MOMENTS, self.bins, dtype=torch.float64, device=context.device)
        for batch in batches:
            context.check_stop()
            batch = context.on_device(batch)
            if self.bins > length:
                raise UserError(
                    f"evaluation.by_position.bins={self.bins}: the targets have no more than {length} positions"
                )
            sums += loss_moments(model, batch, context, self.bins)
        return {NAME: score(Means.of(context.total(sums).cpu()), length)}


def loss_moments(model: nn.Module, batch: Batch, context: Context, bins: int) -> Tensor:
    """The moments (6,bins) of the nats of a batch in `bins` equal stretches of its positions."""
    with context.autocast():
        _, nll = model.forward(batch)  # never compiled, as for the held-out loss
    bin_of = binned.stretches(nll.shape[1], bins, nll.device)
    return binned.moments(*binned.by_sequence(nll, binned.scored(batch), bin_of, bins))


def score(losses: Means, length: int) -> Score:
    """The score that follows from the losses in stretches of targets which have `length` positions."""
    ends, there = binned.ends(length, len(losses.mean)), losses.filled
    last = there[-1]
    return Score(
        losses.mean[last].item(),
        "nats a token",
        higher_is_better=False,
        items=int(losses.targets[last]),
        standard_error=losses.error_of(last),
        curve=Curve("position", tuple(ends[number] for number in there), tuple(losses.mean[there].tolist())),
    )
