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
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ablate.config.batch import share
from ablate.data import objective
from ablate.data.corpus import Corpus
from ablate.data.permutation import permute
from ablate.errors import UserError

Batch = dict[str, Tensor]
log = logging.getLogger(__name__)

CHUNK_TOKENS = 1 << 16  # input tokens made at once; changing it changes the masks of every step
EVALUATION_WINDOWS = 32  # held-out windows whose masks are drawn together, whatever the batch size
PREFETCH_MAX_STEPS = 4  # steps in a chunk up to which a thread gains more than it costs in switches of the interpreter
PREFETCH_DELAY = 0.001  # seconds in which the caller can launch its kernels before the thread takes the interpreter


class Prefetcher:
    """`make(number)`, while a thread already makes `number + 1`."""

    def __init__(self, make: Callable[[int], list[Batch]]):
        self._make, self._pool = make, ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: dict[int, Future[list[Batch]]] = {}  # at most two: this number and the next

    def __call__(self, number: int) -> list[Batch]:
        current = self._made.get(number) or self._pool.submit(self._make, number)
        batches = current.result()
        if number + 1 not in self._made or number not in self._made:
            following = self._made.get(number + 1) or self._pool.submit(self._delayed, number + 1)
            self._made = {number: current, number + 1: following}
        return batches

    def _delayed(self, number: int) -> list[Batch]:
        time.sleep(PREFETCH_DELAY)
        return self._make(number)


class Batches:
    """The batches of one run: windows of the train part in a new order each epoch, and the masks of each step.

        step -> places in the epoch's order -> windows (one gather) -> objective (masks from seed and step) -> tensors

    Small batches are made a chunk of steps at a time, because a call costs more than their arithmetic; large ones are
    prefetched by a thread while the model computes. Raises UserError if the corpus has fewer windows than a batch.
    """

    def __init__(self, cfg: DictConfig, corpus: Corpus):
        self.cfg, self.corpus = cfg, corpus
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
        self._chunk_steps = max(1, CHUNK_TOKENS // self.tokens)
        few = self._chunk_steps <= PREFETCH_MAX_STEPS
        self._chunk: Callable[[int], list[Batch]] = Prefetcher(self._make) if few else lru_cache(maxsize=1)(self._make)

    def train(self, step: int) -> Batch:
        """The global batch of `step`, counted from 0; int64 ids (sequences, length)."""
        chunk, index = divmod(step, self._chunk_steps)
        batch: Batch = self._chunk(chunk)[index]
        return batch

    def micro(self, step: int, index: int, count: int) -> Batch:
        """Slice `index` of `count` equal slices of the global batch of `step`; UserError if they would not be equal."""
        rows, remainder = divmod(self.sequences, count)
        if remainder:
            raise UserError(f"a batch of {self.sequences} sequences cannot be split into {count} equal slices")
        batch = self.train(step)
        if count == 1:
            return batch
        return {name: tensor[index * rows : (index + 1) * rows] for name, tensor in batch.items()}

    def evaluation(self, n_tokens: int, seed: int, length: int | None = None) -> list[Batch]:
        """Held-out batches of `n_tokens` input tokens, at least one window, drawn from all of the validation part.

        Each of its windows is equally likely, and none is drawn twice. Windows and masks depend only on the text, the
        objective and `seed`, so that runs with other batch sizes can be compared; the last batch may be smaller. If the
        validation part has fewer windows, all of them are used. `length`: of the sequences, where it is not that of
        training; a batch then has about as many tokens. Raises UserError where the text is shorter than one of them.
        """
        made, sequences = self._at_length(length)
        length = made.raw_length
        available, requested = self.corpus.validation.n_windows(length), max(n_tokens // made.length, 1)
        if not available:
            raise UserError(
                f"data={self.corpus.name}: its validation part has {self.corpus.validation.n_tokens:,} tokens and an "
                f"evaluation takes windows of {length}; raise data.validation_share or give more text"
            )
        if available < requested:
            log.warning(
                "the validation part of %s has %d windows and an evaluation asks for %d: all are used",
                self.corpus.name,
                available,
                requested,
            )
        drawn, count = [], min(available, requested)
        for number, start in enumerate(range(0, count, EVALUATION_WINDOWS)):
            places = np.arange(start, min(start + EVALUATION_WINDOWS, count))
            windows = self.corpus.validation.windows(permute(places, available, seed, epoch=0), length)
            drawn.append(made.apply(windows, _generator("evaluation", seed, number)))
        return _batches({name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}, sequences)

    def _at_length(self, length: int | None) -> tuple[objective.Objective, int]:
        """The objective with sequences of another length, and how many of them make a batch."""
        if length is None or length == self.objective.length:
            return self.objective, self.sequences
        cfg = OmegaConf.merge(self.cfg, {"objective": {"length": length}})
        assert isinstance(cfg, DictConfig)
        return objective.build(cfg, self.corpus), max(1, self.sequences * self.objective.length // length)

    def _make(self, chunk: int) -> list[Batch]:
        """The batches of all steps of a chunk."""
        rows = self._chunk_steps * self.sequences
        places = np.arange(chunk * rows, (chunk + 1) * rows)
        windows = self.corpus.train.windows(self._order(places), self.objective.raw_length)  # (rows, raw_length)
        return _batches(self.objective.apply(windows, _generator("train", self.seed, chunk)), self.sequences)

    def _order(self, places: np.ndarray) -> np.ndarray:
        """The numbers of the windows at consecutive `places` of the endless sequence of epochs, (places,) int64."""
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
    """The tensors of each step, (sequences, length), from the arrays of several steps, (steps * sequences, length).

    Weights have mean 1 within a step, so that the mean of the weighted losses is the mean over the scored targets.
    """
    tensors = {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items() if name != "scored"}
    if "scored" in arrays:
        scored = torch.from_numpy(arrays["scored"]).float()
        tensors["weights"] = torch.cat([part / part.mean() for part in scored.split(sequences)])
    parts = {name: tensor.split(sequences) for name, tensor in tensors.items()}
    return [dict(zip(parts, step, strict=True)) for step in zip(*parts.values(), strict=True)]
