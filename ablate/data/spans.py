"""Span corruption's arithmetic (Raffel et al. 2020): how many spans, which tokens, what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.errors import UserError


@dataclass(frozen=True)
class Lengths:
    """Numbers of one example: `raw` tokens of text, of which `noise` in `spans` spans become targets.

    input = raw - noise + spans + 1 and target = noise + spans + 1: a sentinel a span and an end-of-sequence on each side.
    """

    raw: int
    noise: int
    spans: int

    @property
    def input(self) -> int:
        return self.raw - self.noise + self.spans + 1

    @property
    def target(self) -> int:
        return self.noise + self.spans + 1


def lengths_of(raw: int, noise_density: float, mean_span: float) -> Lengths:
    """The numbers for `raw` tokens; halves round to even."""
    noise = min(max(round(raw * noise_density), 1), raw - 1)
    return Lengths(raw, noise, max(round(noise / mean_span), 1))


def lengths_for(input_length: int, noise_density: float, mean_span: float) -> Lengths:
    """The numbers that fill `input_length` exactly with as much text as fits; raises UserError where nothing does.

    At a density of one half, one token less where the target would be longer than the input, as in the original.
    """
    raw = 2
    if lengths_of(raw, noise_density, mean_span).input > input_length:
        raise UserError(f"objective.length={input_length}: too short for span corruption, whose inputs have at least 3 tokens")
    while lengths_of(raw + 1, noise_density, mean_span).input <= input_length:
        raw += 1
    found = lengths_of(raw, noise_density, mean_span)
    if noise_density == 0.5 and found.target > input_length:
        found = lengths_of(raw - 1, noise_density, mean_span)
    if found.input != input_length:
        raise UserError(
            f"objective.length={input_length}: no amount of text gives inputs of exactly this length at "
            f"noise_density={noise_density}, mean_span={mean_span}; {found.input} is possible"
        )
    return found


def noise_mask(rows: int, lengths: Lengths, rng: np.random.Generator) -> np.ndarray:
    """Which tokens are noise, (rows, raw) bool, drawn uniformly: each row starts with text and ends with noise.

        text noise text noise ...      both kinds are cut into `spans` pieces, none empty
    """
    pieces = np.empty((rows, lengths.spans, 2), np.int64)
    pieces[:, :, 0] = _cut(rows, lengths.raw - lengths.noise, lengths.spans, rng)
    pieces[:, :, 1] = _cut(rows, lengths.noise, lengths.spans, rng)
    is_noise = np.broadcast_to(np.array([False, True]), pieces.shape)
    return np.repeat(is_noise.ravel(), pieces.ravel()).reshape(rows, lengths.raw)


def _cut(rows: int, n: int, pieces: int, rng: np.random.Generator) -> np.ndarray:
    """`n` items cut into `pieces` non-empty pieces, all ways equally likely: their sizes, (rows, pieces)."""
    if pieces > n:
        raise UserError(f"span corruption cannot cut {n} tokens into {pieces} spans; choose a longer mean_span or a lower noise_density")
    cuts = np.empty((rows, pieces + 1), np.int64)
    cuts[:, 0], cuts[:, -1] = 0, n
    if pieces > 1:
        # random keys, one a gap between items; the smallest pieces-1 of a row are cut. The gap's own number in the low
        # bits keeps keys apart, so that exactly so many lie below the threshold.
        keys = rng.integers(0, 1 << 64, (rows, n - 1), np.uint64)
        low = np.uint64((1 << (n - 1).bit_length()) - 1)
        keys = (keys & ~low) | np.arange(n - 1, dtype=np.uint64)
        threshold = np.partition(keys, pieces - 2, axis=1)[:, pieces - 2, None]
        cuts[:, 1:-1] = (np.flatnonzero(keys <= threshold) % (n - 1) + 1).reshape(rows, pieces - 1)
    return np.diff(cuts, axis=1)


def corrupt(windows: np.ndarray, mask: np.ndarray, sentinels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs in which a sentinel stands for each noise span, targets in which one stands for each span of text.

    windows, mask: (rows, raw), the mask with equally many noise tokens and spans in each row, starting with text and ending with
    noise. Returns (rows, raw - noise + spans) and (rows, noise + spans), without end-of-sequence.
    """
    rows = len(windows)
    starts = mask.copy()  # of spans of noise
    starts[:, 1:] &= ~mask[:, :-1]
    text_starts = ~mask
    text_starts[:, 1:] &= mask[:, :-1]
    used = np.tile(sentinels[: np.count_nonzero(starts[0])].astype(windows.dtype), rows)
    return _replaced(windows, starts, ~mask | starts, used), _replaced(windows, text_starts, mask | text_starts, used)


def _replaced(windows: np.ndarray, places: np.ndarray, kept: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`windows` with `values` at `places`, and of that what is `kept`."""
    changed = windows.copy()
    changed[places] = values
    return changed[kept].reshape(len(windows), -1)
