"""How a pair of texts is given to a model, by the fields of a batch that its topology reads.

    encoder-decoder    encoder: input        decoder: <start> answer
    prefix decoder     decoder: <start> input answer, the input visible in both directions
    causal decoder     the same, each token seeing those before it

Only the answer is scored. Rows are padded behind their end, in segment 0.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from ablate.data.prompt import Prompt
from ablate.evaluation.contract import Batch

Pair = tuple[np.ndarray, np.ndarray]  # an input and its answer, ids


class Form:
    """The batches of one kind of model; `pad_id` starts a decoder's input too."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def lengths(self, input_length: int, target_length: int) -> tuple[int, int]:
        """The most ids of an input and of an answer, for those of a model that reads them apart."""
        return input_length, target_length

    def _shifted(self, targets: Tensor, present: Tensor) -> Tensor:
        """What a decoder reads to write `targets`: each token one place later, the start symbol first."""
        start = torch.full_like(targets[:, :1], self.pad_id)
        return torch.cat([start, targets[:, :-1]], 1).masked_fill(~present, self.pad_id)

    def training(self, pairs: Sequence[Pair]) -> Batch:
        """The batch of these pairs; weights have the mean 1, and are 0 wherever no answer is."""
        raise NotImplementedError

    def prompt(self, inputs: Sequence[np.ndarray]) -> Batch:
        """What is read before an answer is written."""
        raise NotImplementedError

    def question(self, inputs: np.ndarray) -> Prompt:
        """The same of one input, as it is asked for the likelihood of an answer."""
        raise NotImplementedError


class Split(Form):
    """Input and answer in two stacks."""

    def training(self, pairs: Sequence[Pair]) -> Batch:
        targets, present = padded([answer for _, answer in pairs], self.pad_id)
        return {
            **self.prompt([ids for ids, _ in pairs]),
            "decoder_ids": self._shifted(targets, present),
            "decoder_segments": present.long(),
            "targets": targets,
            "weights": weights(present),
        }

    def prompt(self, inputs: Sequence[np.ndarray]) -> Batch:
        ids, present = padded(inputs, self.pad_id)
        return {"encoder_ids": ids, "encoder_segments": present.long()}

    def question(self, inputs: np.ndarray) -> Prompt:
        return Prompt((self.pad_id,), tuple(inputs.tolist()))


class Joined(Form):
    """Input and answer in one sequence, as long as an input may be alone: no longer than the model was trained on."""

    def __init__(self, pad_id: int, has_prefix: bool):
        super().__init__(pad_id)
        self.has_prefix = has_prefix

    def lengths(self, input_length: int, target_length: int) -> tuple[int, int]:
        """Both together have `input_length` ids, of which the answer gets half at most."""
        answer = min(target_length, input_length // 2)
        return input_length - answer, answer

    def training(self, pairs: Sequence[Pair]) -> Batch:
        targets, present = padded([np.concatenate(pair) for pair in pairs], self.pad_id)
        lengths = torch.tensor([len(ids) for ids, _ in pairs])
        is_answer = present & (torch.arange(targets.shape[1]) >= lengths[:, None])
        return {
            "decoder_ids": self._shifted(targets, present),
            "decoder_segments": present.long(),
            "targets": targets,
            "weights": weights(is_answer),
            **self._prefix(lengths),
        }

    def prompt(self, inputs: Sequence[np.ndarray]) -> Batch:
        ids, present = padded([np.append(self.pad_id, row) for row in inputs], self.pad_id)
        lengths = torch.tensor([len(row) for row in inputs])
        return {"decoder_ids": ids, "decoder_segments": present.long(), **self._prefix(lengths)}

    def question(self, inputs: np.ndarray) -> Prompt:
        return Prompt((self.pad_id, *inputs.tolist()))

    def _prefix(self, lengths: Tensor) -> Batch:
        return {"prefix_lengths": lengths + 1} if self.has_prefix else {}  # the start symbol belongs to it


def form_for(reads: Collection[str], pad_id: int = 0) -> Form:
    """The form for a topology that reads these fields of a batch, and has a decoder."""
    return Split(pad_id) if "encoder_ids" in reads else Joined(pad_id, "prefix_lengths" in reads)


def padded(rows: Sequence[np.ndarray], pad_id: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as one tensor (B,T) int64, padded behind their ends; and where they are, (B,T) bool."""
    length = max(map(len, rows))
    ids = np.full((len(rows), length), pad_id, np.int64)
    present = np.zeros((len(rows), length), bool)
    for number, row in enumerate(rows):
        ids[number, : len(row)], present[number, : len(row)] = row, True
    return torch.from_numpy(ids), torch.from_numpy(present)


def weights(scored: Tensor) -> Tensor:
    """(B,T) float32: the same wherever `scored` is true, 0 elsewhere, 1 in the mean."""
    share = scored.float()
    return share / share.mean()
