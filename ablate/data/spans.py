"""The arithmetic of span corruption (Raffel et al. 2020): how many spans, which tokens, inputs and targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.errors import UserError


@dataclass(frozen=True)
class Lengths:
    """Token counts of one example: `raw` tokens of text, of which `noise`, in `spans` spans, become targets.

    input = raw - noise + spans + 1, target = noise + spans + 1: each side has a sentinel a span and an end-of-sequence.
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
    """The counts for `raw` tokens; halves round to even."""
    noise = min(max(round(raw * noise_density), 1), raw - 1)
    return Lengths(raw, noise, max(round(noise / mean_span), 1))


def lengths_for(input_length: int, noise_density: float, mean_span: float) -> Lengths:
    """The counts that fill `input_length` exactly with as much text as fits; raises UserError if none do.

    At a density of one half the text is one token shorter if the target would be longer than the input, as in T5.
    """
    raw = 2
    if lengths_of(raw, noise_density, mean_span).input > input_length:
        raise UserError(
            f"objective.length={input_length}: too short for span corruption, whose inputs have at least 3 tokens"
        )
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


def draw(rows: int, lengths: Lengths, rng: np.random.Generator) -> np.ndarray:
    """Sizes of alternating pieces of text and noise, (rows, spans, 2) int64, none empty, all divisions equally likely.

    text noise text noise ...: a row starts with text and ends with noise.
    """
    return np.stack(
        [_cut(rows, lengths.raw - lengths.noise, lengths.spans, rng), _cut(rows, lengths.noise, lengths.spans, rng)],
        axis=2,
    )


def _cut(rows: int, n: int, pieces: int, rng: np.random.Generator) -> np.ndarray:
    """`n` items cut into `pieces` non-empty pieces, in each row at random: their sizes, (rows, pieces) int64."""
    cuts = np.empty((rows, pieces + 1), np.int64)
    cuts[:, 0], cuts[:, -1] = 0, n
    if pieces > 1:
        # Draw one random key for each of the n - 1 gaps between items, (rows, gaps), and cut at the smallest pieces - 1
        # keys of each row. The gap's number in the low bits makes the keys of a row distinct, so that exactly
        # pieces - 1 of them are at or below the threshold; the 22 or more high bits are random.
        gaps = n - 1
        kind = np.uint32 if gaps.bit_length() <= 10 else np.uint64
        low = kind((1 << gaps.bit_length()) - 1)
        keys = rng.integers(0, np.iinfo(kind).max, (rows, gaps), kind, endpoint=True)
        keys &= ~low
        keys |= np.arange(gaps, dtype=kind)
        threshold = np.partition(keys, pieces - 2, axis=1)[:, pieces - 2, None]
        cuts[:, 1:-1] = (np.flatnonzero(keys <= threshold) % gaps + 1).reshape(rows, pieces - 1)
    return np.diff(cuts, axis=1)


@dataclass(frozen=True)
class Runs:
    """One side of corrupted rows: runs of raw tokens, one a span, each with a slot for its sentinel, then the end.

    index: (rows, length), where each token comes from in the flattened windows (arbitrary at sentinels and the end).
    slots: (rows, spans), the places of the sentinels in the flattened side.
    sizes: (rows, spans), tokens of each run with its sentinel; the last run's includes the end.
    """

    index: np.ndarray
    slots: np.ndarray
    sizes: np.ndarray

    def fill(self, windows: np.ndarray, sentinels: np.ndarray, eos_id: int) -> np.ndarray:
        """The ids of this side, (rows, length), in the windows' dtype."""
        ids = windows.ravel().take(self.index, mode="clip")  # the end's index may be past the last window
        ids.ravel()[self.slots] = sentinels[: self.sizes.shape[1]]
        ids[:, -1] = eos_id
        return ids


def sides(pieces: np.ndarray) -> tuple[Runs, Runs]:
    """Inputs and targets from the sizes of text and noise (rows, spans, 2), which have the same sum in every row.

    raw      a a a N N a a N        inputs   a a a <0> a a <1> end        targets   <0> N N <1> N end
    """
    text, noise = pieces[:, :, 0], pieces[:, :, 1]
    both = text + noise
    ends = np.cumsum(both, axis=1)  # where each span ends in the raw row
    # A run of the inputs is the text before a span, and its slot comes after it; a run of the targets is the span
    # itself, and begins one place early, because its slot comes before it.
    inputs = _runs(ends - both, text, ends[0, -1], slot_after=True)
    targets = _runs(ends - noise - 1, noise, ends[0, -1], slot_after=False)
    return inputs, targets


def _runs(starts: np.ndarray, tokens: np.ndarray, raw: int, *, slot_after: bool) -> Runs:
    """Runs of `tokens` (rows, spans) and a slot each, from positions `starts` (rows, spans) in `raw` tokens a row."""
    rows = len(tokens)
    sizes = tokens + 1  # with the sentinel
    sizes[:, -1] += 1  # and the end
    flat = sizes.ravel()
    begins = np.cumsum(flat) - flat  # where each run begins on this side, all rows flattened
    # A run is contiguous in the raw text too, so one shift takes all its places from this side to the flat windows.
    index = np.arange(flat.sum())
    index += np.repeat((starts + raw * np.arange(rows)[:, None]).ravel() - begins, flat)
    slots = begins.reshape(tokens.shape) + (tokens if slot_after else 0)
    return Runs(index.reshape(rows, -1), slots, sizes)
