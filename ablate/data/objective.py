"""Objectives: windows of tokens -> what a model reads and what it must say, for a whole batch at once."""

from __future__ import annotations

import numpy as np

from ablate.errors import UserError

Arrays = dict[str, np.ndarray]


def span_counts(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """How many of `length` tokens are noise, and in how many spans."""
    noise = min(max(int(round(length * density)), 1), length - 1)
    return noise, max(int(round(noise / mean_span)), 1)


def span_lengths(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """(input, target) lengths that a window of `length` tokens becomes, the end of sequence counted on both sides."""
    noise, spans = span_counts(length, density, mean_span)
    return length - noise + spans + 1, noise + spans + 1


def raw_length(input_length: int, density: float, mean_span: float) -> tuple[int, int]:
    """(tokens to take, target length) for the longest window whose input fits `input_length`."""
    length = input_length
    while span_lengths(length + 1, density, mean_span)[0] <= input_length:
        length += 1
    return length, span_lengths(length, density, mean_span)[1]


def random_pieces(rng: np.random.Generator, rows: int, items: int, pieces: int) -> np.ndarray:
    """(rows, pieces) lengths, each 1 or more, that cut `items` uniformly."""
    cuts = np.argpartition(rng.random((rows, items - 1)), pieces - 2, axis=1)[:, : pieces - 1] if pieces > 1 else None
    bounds = np.zeros((rows, pieces + 1), dtype=np.int64)
    bounds[:, -1] = items
    if cuts is not None:
        bounds[:, 1:-1] = np.sort(cuts, axis=1) + 1
    return np.diff(bounds, axis=1)


def random_mask(rng: np.random.Generator, rows: int, length: int, density: float, mean_span: float) -> np.ndarray:
    """(rows, length) bool, True at noise: ordinary and noise spans in turn, an ordinary one first."""
    noise, spans = span_counts(length, density, mean_span)
    lengths = np.stack(
        (random_pieces(rng, rows, length - noise, spans), random_pieces(rng, rows, noise, spans)), axis=2
    ).reshape(rows, 2 * spans)
    starts = np.cumsum(lengths, axis=1)[:, :-1]
    marks = np.zeros((rows, length), dtype=np.int64)
    np.put_along_axis(marks, starts, 1, axis=1)
    return np.cumsum(marks, axis=1) % 2 == 1


def replace_spans(tokens: np.ndarray, spans: np.ndarray, first_sentinel: int) -> np.ndarray:
    """Each run of True in `spans` becomes one sentinel, counted down from `first_sentinel`.

    All rows must keep the same number of tokens: (rows, length) -> (rows, kept).
    """
    starts = spans & ~np.pad(spans, ((0, 0), (1, 0)))[:, :-1]
    sentinels = first_sentinel + 1 - np.cumsum(starts, axis=1)
    kept = ~spans | starts
    return np.where(starts, sentinels, tokens)[kept].reshape(len(tokens), -1)


class SpanCorruption:
    """Spans of tokens are replaced by sentinels; the targets are the spans (Raffel et al. 2020)."""

    def __init__(self, *, length: int, noise_density: float, mean_span: float, corpus):
        self.density, self.mean_span, self.corpus = noise_density, mean_span, corpus
        self.input_length = length
        self.raw_length, self.target_length = raw_length(length, noise_density, mean_span)
        spans = span_counts(self.raw_length, noise_density, mean_span)[1]
        if spans > corpus.n_sentinels:
            raise UserError(f"objective.length={length}: {spans} spans need as many sentinels; the tokenizer has {corpus.n_sentinels}")

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        rows = len(windows)
        tokens = windows.astype(np.int64)
        mask = random_mask(rng, rows, tokens.shape[1], self.density, self.mean_span)
        end = np.full((rows, 1), self.corpus.eos_id, dtype=np.int64)
        first = self.corpus.sentinel(0)
        targets = np.concatenate((replace_spans(tokens, ~mask, first), end), axis=1)
        return {
            "encoder_ids": np.concatenate((replace_spans(tokens, mask, first), end), axis=1),
            "decoder_ids": shift_right(targets),
            "targets": targets,
        }


def shift_right(targets: np.ndarray) -> np.ndarray:
    """What a decoder reads: 0, then the targets but the last."""
    return np.pad(targets, ((0, 0), (1, 0)))[:, :-1]


class Causal:
    """Each token from those before it."""

    def __init__(self, *, length: int, corpus):
        self.corpus, self.input_length = corpus, length
        self.raw_length = self.target_length = length

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        targets = windows.astype(np.int64)
        return {"decoder_ids": shift_right(targets), "targets": targets}


class Prefix(Causal):
    """The second part of a window from a first part that sees itself, cut anywhere (Liu et al. 2018).

    Only what follows the prefix is scored; its weights make up for what is not.
    """

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        arrays = super().apply(windows, rng)
        rows, length = windows.shape
        prefix = rng.integers(1, length, size=rows)
        arrays["prefix_lengths"] = prefix
        # Position t reads token t-1: the first scored target is the first one that the prefix does not show.
        arrays["weights"] = even_weights(np.arange(length)[None, :] >= prefix[:, None] - 1)
        return arrays


class Masked:
    """Tokens behind a mask from both sides (Devlin et al. 2019): of those chosen, 80 % masked, 10 % random, 10 % kept."""

    def __init__(self, *, length: int, probability: float, corpus):
        self.corpus, self.probability, self.input_length = corpus, probability, length
        self.raw_length = self.target_length = length

    def apply(self, windows: np.ndarray, rng: np.random.Generator) -> Arrays:
        targets = windows.astype(np.int64)
        count = min(max(int(round(targets.shape[1] * self.probability)), 1), targets.shape[1])
        order = np.argpartition(rng.random(targets.shape), count - 1, axis=1)[:, :count]
        chosen = np.zeros(targets.shape, dtype=bool)
        np.put_along_axis(chosen, order, True, axis=1)
        fate = rng.random(targets.shape)
        ids = np.where(chosen & (fate < 0.8), self.corpus.mask_id, targets)
        ids = np.where(chosen & (fate >= 0.9), rng.integers(3, self.corpus.text_size, size=targets.shape), ids)
        return {"encoder_ids": ids, "targets": targets, "weights": even_weights(chosen)}


def even_weights(scored: np.ndarray) -> np.ndarray:
    """1 where scored, scaled so that the mean over all slots of weight x loss is the mean loss of the scored ones."""
    return (scored * (scored.size / scored.sum())).astype(np.float32)


def build(cfg, corpus):
    """The objective that `cfg.objective` describes, over `corpus`."""
    from ablate.config.targets import instantiate
    from omegaconf import OmegaConf

    return instantiate(OmegaConf.to_container(cfg["objective"], resolve=True))(corpus=corpus)
