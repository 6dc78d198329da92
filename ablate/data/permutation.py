"""A keyed permutation of 0 .. n-1 that is computed where it is needed, never stored."""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 6


def permute(places: np.ndarray, n: int, key: tuple[int, ...]) -> np.ndarray:
    """The images of `places` (each in 0 .. n-1) under the permutation that `key` names.

    A Feistel network over the next even number of bits; images outside 0 .. n-1 are permuted again until they are in.
    """
    half = max((max(n - 1, 1).bit_length() + 1) // 2, 1)
    mask = np.uint64((1 << half) - 1)
    digest = hashlib.sha256(repr(("windows", *key)).encode()).digest()
    keys = np.frombuffer(digest[:32], dtype=np.uint64).tolist() + np.frombuffer(hashlib.sha256(digest).digest(), dtype=np.uint64).tolist()
    values = places.astype(np.uint64)
    todo = np.ones(len(values), dtype=bool)
    while todo.any():
        left, right = values[todo] >> np.uint64(half), values[todo] & mask
        for number in range(ROUNDS):
            left, right = right, left ^ (_mix(right + np.uint64(keys[number])) & mask)
        values[todo] = (left << np.uint64(half)) | right
        todo = values >= n
    return values.astype(np.int64)


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: every bit of the result depends on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
