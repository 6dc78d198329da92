"""Step-indexed batches: which text a step sees is a pure function of (seed, step), whatever the number of processes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.data import objective
from ablate.data.corpus import Corpus
from ablate.data.permutation import permute
from ablate.errors import UserError

Batch = dict[str, Tensor]
log = logging.getLogger(__name__)


class Batches:
    """The batches of one run: windows of the train part in a new order each epoch, and the masks of each step.

        step -> places in the epoch's order -> windows (one gather) -> objective (masks from seed and step) -> tensors

    While a step is computed, a thread makes the batch of the next. Raises UserError where the corpus has fewer windows than a batch.
    """

    def __init__(self, cfg: Mapping[str, Any], corpus: Corpus):
        self.corpus = corpus
        self.objective = objective.build(cfg, corpus)
        self.seed, self.evaluation_seed = cfg["seed"]["data"], cfg["evaluation"]["seed"]
        self.tokens = cfg["trainer"]["global_batch_tokens"]
        self.sequences, rest = divmod(self.tokens, self.objective.length)
        if rest or not self.sequences:
            raise UserError(f"trainer.global_batch_tokens={self.tokens}: no whole number of sequences of {self.objective.length} tokens")
        self.n_windows = corpus.train.n_windows(self.objective.raw_length)
        if self.n_windows < self.sequences:
            raise UserError(
                f"data={corpus.name}: its {corpus.train.n_tokens:,} tokens make {self.n_windows} windows of {self.objective.raw_length}, "
                f"and a batch takes {self.sequences}; give more text or lower trainer.global_batch_tokens"
            )
        if not corpus.validation.n_windows(self.objective.raw_length):
            raise UserError(
                f"data={corpus.name}: the validation part has {corpus.validation.n_tokens:,} tokens, fewer than one window of "
                f"{self.objective.raw_length}; raise data.validation_share or give more text"
            )
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: dict[int, Future[Batch]] = {}  # this step and the next

    def train(self, step: int) -> Batch:
        """The global batch of `step`, counted from 0; int64 ids (sequences, length)."""
        now = self._made.get(step) or self._ahead.submit(self._make, step)
        following = self._made.get(step + 1) or self._ahead.submit(self._make, step + 1)
        self._made = {step: now, step + 1: following}
        return now.result()

    def micro(self, step: int, index: int, count: int) -> Batch:
        """Slice `index` of `count` equal slices of the global batch of `step`; all of them together are the batch."""
        rows, rest = divmod(self.sequences, count)
        if rest:
            raise UserError(f"a batch of {self.sequences} sequences cannot be cut into {count} equal slices")
        return {name: tensor[index * rows : (index + 1) * rows] for name, tensor in self.train(step).items()}

    def evaluation(self, n_tokens: int) -> list[Batch]:
        """Held-out batches of `n_tokens` input tokens, the same for every run: the first windows, and masks from a seed of their own.

        Whole batches, at least one; where the validation part holds fewer, all of it, the last batch being smaller.
        """
        length = self.objective.raw_length
        there, asked = self.corpus.validation.n_windows(length), max(n_tokens // self.tokens, 1) * self.sequences
        if there < asked:
            log.warning(
                "the validation part of %s has %d windows and evaluation.tokens asks for %d: all are used", self.corpus.name, there, asked
            )
        batches = []
        for number, start in enumerate(range(0, min(there, asked), self.sequences)):
            windows = self.corpus.validation.windows(np.arange(start, min(start + self.sequences, there)), length)
            batches.append(_tensors(self.objective.apply(windows, _generator("evaluation", self.evaluation_seed, number))))
        return batches

    def _make(self, step: int) -> Batch:
        places = np.arange(step * self.sequences, (step + 1) * self.sequences)
        windows = self.corpus.train.windows(self._order(places), self.objective.raw_length)
        return _tensors(self.objective.apply(windows, _generator("train", self.seed, step)))

    def _order(self, places: np.ndarray) -> np.ndarray:
        """The windows at these places of the endless sequence of epochs."""
        first, last = places[0] // self.n_windows, places[-1] // self.n_windows
        parts = []
        for epoch in range(first, last + 1):
            inside = places[places // self.n_windows == epoch] if first != last else places
            parts.append(permute(inside - epoch * self.n_windows, self.n_windows, self.seed, epoch))
        return np.concatenate(parts)


def _generator(stream: str, seed: int, number: int) -> np.random.Generator:
    digest = hashlib.blake2b(f"{stream}/{seed}/{number}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _tensors(arrays: Mapping[str, np.ndarray]) -> Batch:
    return {name: torch.from_numpy(a if a.dtype == np.float32 else a.astype(np.int64)) for name, a in arrays.items()}
