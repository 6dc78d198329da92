"""The loss beyond the training length: what a model makes of sequences longer than those it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from omegaconf import DictConfig
from torch import Tensor

from ablate.config.instantiation import fill
from ablate.errors import UserError
from ablate.evaluation import binned
from ablate.evaluation.binned import Means
from ablate.evaluation.contract import Batch, Context, Evaluation
from ablate.model.build import Model
from ablate.ranges import AMOUNT, COUNT, Ranges, check, whole
from ablate.run.score import Curve, Score

AT, BEYOND = "loss_at_training_length", "loss_beyond_training_length"
UNIT = "nats a token"


class Extrapolation(Evaluation):
    """The loss by position in held-out sequences of `factor` times the training length (Press et al. 2022, "Train
    short, test long", https://arxiv.org/abs/2108.12409), for decoders.

    A window of the longer length is read in one pass. Each training length is divided into `stretches`. Scores:

    - `loss_at_training_length`: the mean loss in the stretch that ends at the training length. Its curve has each
      stretch's loss at its last position, as far as the model reads.
    - `loss_beyond_training_length`: the loss in the last stretch minus that, sequence by sequence, with a standard
      error over sequences; 0 is a model that neither loses nor gains beyond its training length.

    A model whose positions end sooner is given sequences as long as it reads: the curve ends there, its `source` says
    why, and there is no score `loss_beyond_training_length`.
    """

    ranges: ClassVar[Ranges] = {"factor": whole(2, 1024), "stretches": COUNT, "tokens": AMOUNT}

    def __init__(self, *, factor: int, stretches: int, tokens: int, seed: int):
        check(type(self), "evaluation.extrapolation", factor=factor, stretches=stretches, tokens=tokens)
        self.factor, self.stretches, self.tokens, self.seed = factor, stretches, tokens, seed

    def check(self, config: DictConfig) -> None:
        """Refuse models that are no causal decoders, documents that are masked from each other, and a training length
        that `stretches` does not divide."""
        if fill(config, "topology").func.reads != {"decoder_ids"}:
            raise UserError(
                "evaluation=extrapolation reads one sequence beyond the training length, token by token; choose "
                "topology=causal_decoder, or leave the evaluation out"
            )
        if config.data.document_mask:
            raise UserError(
                "evaluation=extrapolation: with data.document_mask=true positions are counted in each document, and "
                "none is beyond the training length for certain; set data.document_mask=false"
            )
        length = config.objective.length
        if length % self.stretches:
            raise UserError(
                f"evaluation.extrapolation.stretches={self.stretches} does not divide objective.length={length}"
            )

    def evaluate(self, model: Model, context: Context) -> dict[str, Score]:
        """The scores `AT` and, where the model reads all of a sequence, `BEYOND`."""
        trained = int(context.config.objective.length)
        batches = context.heldout(self.tokens, self.seed, self.factor * trained)
        length, why = self._readable(model, context, trained)
        bins = length * self.stretches // trained
        sums = torch.zeros(binned.MOMENTS, bins + 1, dtype=torch.float64, device=context.device)
        for batch in batches:
            context.check_stop()
            sums += self._moments(model, context, _cut(context.on_device(batch), length), bins)
        losses = Means.of(context.total(sums).cpu())
        source = {"training_length": trained, "read_length": length, **({"ended": why} if why else {})}
        return self._scores(losses, length, source)

    def _readable(self, model: Model, context: Context, trained: int) -> tuple[int, str]:
        """The most positions, in whole stretches, up to the wanted length that the model reads, and why no more."""
        step = trained // self.stretches
        most = self.factor * self.stretches
        why = _refusal(model, context, most * step)
        if not why:
            return most * step, ""
        fits, fails = self.stretches, most  # in stretches; the training length fits
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if refused := _refusal(model, context, middle * step):
                fails, why = middle, refused
            else:
                fits = middle
        return fits * step, why

    def _moments(self, model: Model, context: Context, batch: Batch, bins: int) -> Tensor:
        """(6,bins + 1): of the losses in each stretch, and of the last minus that at the training length."""
        with context.autocast():
            _, nll = model.forward(batch)
        bin_of = binned.stretches(nll.shape[1], bins, nll.device)
        nats, counts = binned.by_sequence(nll, binned.scored(batch), bin_of, bins)
        loss = nats / counts  # (B,bins)
        beyond = loss[:, -1:] - loss[:, self.stretches - 1 : self.stretches]
        known = beyond.isfinite()
        pairs = binned.moments(beyond.nan_to_num(0, 0, 0), known.double())
        return torch.cat([binned.moments(nats, counts), pairs], 1)

    def _scores(self, losses: Means, length: int, source: dict[str, Any]) -> dict[str, Score]:
        bins = len(losses.mean) - 1
        ends, at = binned.ends(length, bins), self.stretches - 1
        there = [number for number in losses.filled if number < bins]
        curve = Curve("position", tuple(ends[number] for number in there), tuple(losses.mean[there].tolist()))
        scores = {AT: replace(_score(losses, at, source, curve), exploratory=True)}
        if "ended" not in source:
            scores[BEYOND] = _score(losses, bins, source)
        return scores


def _score(losses: Means, number: int, source: dict[str, Any], curve: Curve | None = None) -> Score:
    return Score(
        losses.mean[number].item(),
        UNIT,
        higher_is_better=False,
        items=int(losses.targets[number]),
        standard_error=losses.error_of(number),
        source=source,
        curve=curve,
    )


def _cut(batch: Batch, length: int) -> Batch:
    """The first `length` positions: of a decoder, what they give does not depend on those behind them."""
    return {name: tensor[:, :length] for name, tensor in batch.items()}


def _refusal(model: Model, context: Context, length: int) -> str:
    """Why the model does not read sequences of this length; empty where it does."""
    try:
        with context.autocast():
            model.topology({"decoder_ids": torch.zeros(1, length, dtype=torch.long, device=context.device)})
    except UserError as error:
        return str(error)
    return ""
