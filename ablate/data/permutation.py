"""A shuffled order that is computed, not stored: which window comes at which place of an epoch."""

from __future__ import annotations

import hashlib
import math

import numpy as np

ROUNDS = 6


def permute(places: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """The elements at `places` of a permutation of range(n) determined by (seed, epoch); int64, shaped like `places`.

    A generalised Feistel network on the smallest a x b >= n with a about sqrt(n), applied again to results of n or
    more ("cycle walking", Black and Rogaway 2002). Any place is computed in constant time and memory, so that an order
    has no state to save.
    """
    a = math.isqrt(n - 1) + 1  # ceil(sqrt(n))
    b = -(-n // a)  # ceil(n / a), so that a * b >= n with fewer than a results to walk on from
    digest = hashlib.blake2b(f"order/{seed}/{epoch}".encode(), digest_size=8 * ROUNDS).digest()
    keys = np.frombuffer(digest, "<u8")
    found = _mix(places.astype(np.uint64), keys, np.uint64(a), np.uint64(b))
    outside = np.flatnonzero(found >= n)
    while len(outside):
        found[outside] = _mix(found[outside], keys, np.uint64(a), np.uint64(b))
        outside = outside[found[outside] >= n]
    return found.astype(np.int64)


def _mix(numbers: np.ndarray, keys: np.ndarray, a: np.uint64, b: np.uint64) -> np.ndarray:
    """The Feistel network, a one-to-one map of range(a b) onto itself.

    Each number is a pair (left below a, right below b). A round adds a keyed hash of one half to the other, modulo its
    range; whatever the hash, that can be undone, so the map is one-to-one.
    """
    left, right = np.divmod(numbers, b)
    for key_of_left, key_of_right in keys.reshape(-1, 2):
        left = (left + _hash(right + key_of_left) % a) % a
        right = (right + _hash(left + key_of_right) % b) % b
    mixed: np.ndarray = left * b + right
    return mixed


def _hash(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
