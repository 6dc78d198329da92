"""A shuffled order that is computed, not stored: which window stands at which place of an epoch."""

from __future__ import annotations

import hashlib
import math

import numpy as np

ROUNDS = 6


def permute(places: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """What stands at `places` of a permutation of range(n) that (seed, epoch) chooses; int64 like `places`.

    A generalised Feistel network on the nearest a x b >= n, walked until it lands below n (Black and Rogaway 2002): any
    place is found in the same time and no memory, so that an order has no state to save.
    """
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    digest = hashlib.blake2b(f"order/{seed}/{epoch}".encode(), digest_size=8 * ROUNDS).digest()
    keys = np.frombuffer(digest, "<u8")
    found = _mix(places.astype(np.uint64), keys, np.uint64(a), np.uint64(b))
    outside = np.flatnonzero(found >= n)
    while len(outside):
        found[outside] = _mix(found[outside], keys, np.uint64(a), np.uint64(b))
        outside = outside[found[outside] >= n]
    return found.astype(np.int64)


def _mix(numbers: np.ndarray, keys: np.ndarray, a: np.uint64, b: np.uint64) -> np.ndarray:
    """One pass of the network over numbers below a b."""
    left, right = np.divmod(numbers, b)
    for key_of_left, key_of_right in keys.reshape(-1, 2):
        left = (left + _hash(right + key_of_left) % a) % a
        right = (right + _hash(left + key_of_right) % b) % b
    return left * b + right


def _hash(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
