"""How often the first choice of a model is the target, and where what it has to look up stands."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ablate.data import objective
from ablate.evaluation import binned
from ablate.evaluation.binned import Means
from ablate.evaluation.contract import Context, Evaluation
from ablate.model.build import Model
from ablate.ranges import AMOUNT, COUNT, Ranges, check
from ablate.run.score import Curve, Score

NAME = "target_accuracy"


class TargetAccuracy(Evaluation):
    """The share, in per cent, of the scored targets to which the model gives the highest probability, on `tokens` input
    tokens of held-out sequences, which follow from `seed`.

    `chance` is what a guess scores, where the objective knows it. For made-up sequences the curve is the same by where
    the key stands: the position, counted from 1, at which the input id of a scored target has come before, in `bins`
    equal stretches of the sequence (Liu et al. 2023, "Lost in the middle", https://arxiv.org/abs/2307.03172).
    """

    ranges: ClassVar[Ranges] = {"bins": COUNT, "tokens": AMOUNT}

    def __init__(self, *, bins: int, tokens: int, seed: int):
        check(type(self), "evaluation.target_accuracy", bins=bins, tokens=tokens)
        self.bins, self.tokens, self.seed = bins, tokens, seed

    def evaluate(self, model: Model, context: Context) -> dict[str, Score]:
        """The score `target_accuracy`."""
        made = objective.build(context.config, context.corpus)
        bins = 0 if made.targets_are_text else min(self.bins, made.length)
        sums = torch.zeros(binned.MOMENTS, 1 + bins, dtype=torch.float64, device=context.device)  # of all; of each bin
        for batch in context.heldout(self.tokens, self.seed):
            context.check_stop()
            batch = context.on_device(batch)
            with context.autocast():
                right = 100.0 * (model.logits(batch).argmax(-1) == batch["targets"])  # (B,T)
            counts = binned.scored(batch)
            parts = [(torch.zeros_like(batch["targets"]), 1)]
            if bins:
                parts.append((binned.stretches(made.length, bins, right.device)[earlier(batch["decoder_ids"])], bins))
            sums += torch.cat([binned.moments(*binned.by_sequence(right, counts, *part)) for part in parts], 1)
        found = Means.of(context.total(sums).cpu())
        score = Score(
            found.mean[0].item(),
            "% of targets",
            higher_is_better=True,
            items=int(found.targets[0]),
            standard_error=found.error_of(0),
            chance=None if made.chance is None else 100 * made.chance,
            curve=_curve(found, made.length, bins) if bins else None,
        )
        return {NAME: score}


def earlier(ids: Tensor) -> Tensor:
    """Where the id of each position has stood last before it, from 0; 0 where it is new. ids (B,T) -> (B,T)."""
    length = ids.shape[1]
    same = (ids[:, :, None] == ids[:, None, :]).tril(-1)  # (B,T,T): [t, s] whether s is before t and has its id
    return (same * torch.arange(length, device=ids.device)).amax(-1)


def _curve(found: Means, length: int, bins: int) -> Curve:
    """The bins that have targets, which stand behind the whole in `found`; each at its last position, from 1."""
    ends = binned.ends(length, bins)
    there = [number for number in range(bins) if found.targets[1 + number] > 0]
    ys = found.mean[1:][there]
    return Curve("position of the key", tuple(ends[number] for number in there), tuple(ys.tolist()))
