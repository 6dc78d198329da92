"""Step-indexed batches: a batch is a pure function of (seed, step), whatever the number of processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.data import objective
from ablate.data.corpus import Corpus
from ablate.data.permutation import permute
from ablate.errors import UserError

Batch = dict[str, Tensor]
MASKS = 0x6D61736B  # tells the masks' random stream from the windows'


class Batches:
    """The batches of one run: windows of the concatenated stream, in a new order each epoch, and their masks.

    Raises UserError where the corpus holds fewer tokens than a batch.
    """

    def __init__(self, cfg: Mapping[str, Any], corpus: Corpus):
        self.corpus = corpus
        self.objective = objective.build(cfg, corpus)
        self.seed = cfg["seed"]["data"]
        self.evaluation_seed = cfg["evaluation"]["seed"]
        tokens, length = cfg["trainer"]["global_batch_tokens"], cfg["objective"]["length"]
        self.sequences, rest = divmod(tokens, length)
        if rest or not self.sequences:
            raise UserError(f"trainer.global_batch_tokens={tokens}: no whole number of sequences of {length} tokens")
        self.n_windows = corpus.train.n_windows(self.objective.raw_length)
        if self.n_windows < self.sequences:
            raise UserError(
                f"data={corpus.name}: {corpus.train.n_tokens:,} tokens are {self.n_windows} windows of "
                f"{self.objective.raw_length}, fewer than the {self.sequences} of one batch"
            )
        self._last: tuple[int, Batch] = (-1, {})

    def train(self, step: int) -> Batch:
        """The global batch of `step`."""
        if self._last[0] != step:
            at = np.arange(step * self.sequences, (step + 1) * self.sequences)
            epochs, places = np.divmod(at, self.n_windows)
            indices = np.concatenate(
                [permute(places[epochs == epoch], self.n_windows, (self.seed, int(epoch))) for epoch in np.unique(epochs)]
            )
            windows = self.corpus.train.windows(indices, self.objective.raw_length)
            rng = np.random.default_rng((self.seed, step, MASKS))
            self._last = (step, _tensors(self.objective.apply(windows, rng)))
        return self._last[1]

    def micro(self, step: int, index: int, count: int) -> Batch:
        """Slice `index` of `count` equal slices of the global batch of `step`."""
        rows, rest = divmod(self.sequences, count)
        if rest:
            raise UserError(f"a batch of {self.sequences} sequences does not divide into {count}")
        return {name: tensor[index * rows : (index + 1) * rows] for name, tensor in self.train(step).items()}

    def evaluation(self, n_tokens: int) -> list[Batch]:
        """Held-out batches of about `n_tokens` input tokens, the same for every run; all there is where there is less."""
        length = self.objective.raw_length
        available = self.corpus.validation.n_windows(length)
        wanted = max(n_tokens // self.objective.input_length, 1)
        batches = max(min(wanted, available) // self.sequences, 1)
        if available < 1:
            raise UserError(f"data={self.corpus.name}: the held-out part has fewer tokens than one window of {length}")
        result = []
        for number in range(batches):
            indices = np.arange(number * self.sequences, min((number + 1) * self.sequences, available))
            windows = self.corpus.validation.windows(indices, length)
            rng = np.random.default_rng((self.evaluation_seed, number, MASKS))
            result.append(_tensors(self.objective.apply(windows, rng)))
        return result


def _tensors(arrays: Mapping[str, np.ndarray]) -> Batch:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
