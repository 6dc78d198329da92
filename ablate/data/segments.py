"""Which tokens of a packed row belong to which document, and how a decoder's input follows from its targets."""

from __future__ import annotations

import numpy as np


def of_documents(windows: np.ndarray, eos_id: int) -> np.ndarray:
    """The number of each token's document in its row, from 1, (rows, length) int64; an end belongs to its document."""
    segments = np.ones(windows.shape, np.int64)
    np.cumsum(windows[:, :-1] == eos_id, axis=1, out=segments[:, 1:])
    segments[:, 1:] += 1
    return segments


def starts(segments: np.ndarray) -> np.ndarray:
    """(rows, length) bool, True at the first token of each segment."""
    first = np.ones(segments.shape, bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return first


def positions(segments: np.ndarray) -> np.ndarray:
    """Each token's position in its segment, from 0, (rows, length) int64."""
    places = np.arange(segments.shape[1])
    # less the place of the segment's first token: the largest start at or before each place
    return places - np.maximum.accumulate(np.where(starts(segments), places, 0), axis=1)


def shifted(targets: np.ndarray, start_id: int, segments: np.ndarray | None = None) -> np.ndarray:
    """A decoder's input, (rows, length): the token before each target, `start_id` at the start of a row or segment."""
    ids = np.empty_like(targets)
    ids[:, 0], ids[:, 1:] = start_id, targets[:, :-1]
    if segments is not None:
        ids[starts(segments)] = start_id
    return ids
