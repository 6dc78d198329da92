"""Step-indexed batches: which text a step sees is a pure function of (seed, step), whatever the number of processes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from ablate.config.batch import share
from ablate.data import objective
from ablate.data.corpus import Corpus
from ablate.data.permutation import permute
from ablate.errors import UserError

Batch = dict[str, Tensor]
log = logging.getLogger(__name__)

BLOCK = 1 << 16  # input tokens that are made at once; another number is another order of masks
DRAWN = 32  # held-out windows whose masks are drawn together, whatever the batch
FEW = 4  # steps in a block up to which a thread is worth its turns at the interpreter
PAUSE = 0.001  # seconds in which whoever asked can go on to its kernels before the thread takes the interpreter


class Ahead:
    """`make(number)`, with the next number's made by a thread meanwhile."""

    def __init__(self, make: Callable[[int], list[Batch]]):
        self._make, self._pool = make, ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: dict[int, Future[list[Batch]]] = {}

    def __call__(self, number: int) -> list[Batch]:
        now = self._made.get(number) or self._pool.submit(self._make, number)
        found = now.result()
        if number + 1 not in self._made or number not in self._made:
            following = self._made.get(number + 1) or self._pool.submit(self._later, number + 1)
            self._made = {number: now, number + 1: following}
        return found

    def _later(self, number: int) -> list[Batch]:
        time.sleep(PAUSE)
        return self._make(number)


class Batches:
    """The batches of one run: windows of the train part in a new order each epoch, and the masks of each step.

        step -> places in the epoch's order -> windows (one gather) -> objective (masks from seed and step) -> tensors

    Small batches are made some steps at a time, because a call costs more than their arithmetic; large ones by a thread
    while the model works. Raises UserError where the corpus has fewer windows than a batch.
    """

    def __init__(self, cfg: DictConfig, corpus: Corpus):
        self.corpus = corpus
        self.objective = objective.build(cfg, corpus)
        self.seed = cfg["seed"]["data"]
        self.tokens = cfg["trainer"]["global_batch_tokens"]
        self.sequences = share(cfg).sequences
        length = self.objective.raw_length
        self.n_windows = corpus.train.n_windows(length)
        if self.n_windows < self.sequences:
            raise UserError(
                f"data={corpus.name}: its {corpus.train.n_tokens:,} tokens make {self.n_windows} windows of {length}, "
                f"and a batch takes {self.sequences}; give more text or lower trainer.global_batch_tokens"
            )
        if not corpus.validation.n_windows(length):
            raise UserError(
                f"data={corpus.name}: its validation part has {corpus.validation.n_tokens:,} tokens and a window takes "
                f"{length}; raise data.validation_share or give more text"
            )
        self._steps = max(1, BLOCK // self.tokens)  # that are made at once
        self._block = Ahead(self._make) if self._steps <= FEW else lru_cache(maxsize=1)(self._make)

    def train(self, step: int) -> Batch:
        """The global batch of `step`, counted from 0; int64 ids (sequences, length)."""
        block, number = divmod(step, self._steps)
        return self._block(block)[number]

    def micro(self, step: int, index: int, count: int) -> Batch:
        """Slice `index` of `count` equal slices of the global batch of `step`; all of them together are the batch."""
        rows, rest = divmod(self.sequences, count)
        if rest:
            raise UserError(f"a batch of {self.sequences} sequences cannot be cut into {count} equal slices")
        batch = self.train(step)
        if count == 1:
            return batch
        return {name: tensor[index * rows : (index + 1) * rows] for name, tensor in batch.items()}

    def evaluation(self, n_tokens: int, seed: int) -> list[Batch]:
        """Held-out batches of `n_tokens` input tokens, at least one window: the first ones, and the same masks.

        They depend on nothing but the text, the objective and `seed`, so runs with other batches can be compared; the
        last batch may be smaller. Where the validation part holds fewer windows, all of it.
        """
        length = self.objective.raw_length
        there, asked = self.corpus.validation.n_windows(length), max(n_tokens // self.objective.length, 1)
        if there < asked:
            log.warning(
                "the validation part of %s has %d windows and an evaluation asks for %d: all are used",
                self.corpus.name,
                there,
                asked,
            )
        drawn, count = [], min(there, asked)
        for number, start in enumerate(range(0, count, DRAWN)):
            windows = self.corpus.validation.windows(np.arange(start, min(start + DRAWN, count)), length)
            drawn.append(self.objective.apply(windows, _generator("evaluation", seed, number)))
        return _batches({name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}, self.sequences)

    def _make(self, block: int) -> list[Batch]:
        """The batches of the steps of a block."""
        rows = self._steps * self.sequences
        windows = self.corpus.train.windows(
            self._order(np.arange(block * rows, (block + 1) * rows)), self.objective.raw_length
        )
        return _batches(self.objective.apply(windows, _generator("train", self.seed, block)), self.sequences)

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


def _batches(arrays: Mapping[str, np.ndarray], sequences: int) -> list[Batch]:
    """The tensors of each step, from the arrays of some steps.

    Weights have the mean 1 in a step, so that a loss summed with them over all targets is a mean over the scored ones.
    """
    tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items() if name != "scored"}
    if "scored" in arrays:
        scored = torch.from_numpy(arrays["scored"]).float()
        tensors["weights"] = torch.cat([part / part.mean() for part in scored.split(sequences)])
    parts = {name: tensor.split(sequences) for name, tensor in tensors.items()}
    return [dict(zip(parts, step, strict=True)) for step in zip(*parts.values(), strict=True)]
