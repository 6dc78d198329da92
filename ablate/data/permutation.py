"""A shuffled order that is computed, not stored: which window stands at which place of an epoch."""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 6


def permute(places: np.ndarray, n: int, seed: int, epoch: int) -> np.ndarray:
    """What stands at `places` of a permutation of range(n) that (seed, epoch) chooses; int64 like `places`.

    A Feistel network over the next power of four, walked until it lands below n (Black and Rogaway 2002): any place is
    found in the same time and no memory, so that an order has no state to save.
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epoch)
    found = places.astype(np.uint64)
    wandering = np.ones(len(found), bool)
    while wandering.any():
        found[wandering] = _mix(found[wandering], keys, half)
        wandering = found >= n
    return found.astype(np.int64)


def _keys(seed: int, epoch: int) -> np.ndarray:
    digest = hashlib.blake2b(f"order/{seed}/{epoch}".encode(), digest_size=8 * ROUNDS).digest()
    return np.frombuffer(digest, "<u8")


def _mix(numbers: np.ndarray, keys: np.ndarray, half: int) -> np.ndarray:
    """One pass of the network over numbers of 2 x `half` bits."""
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = numbers >> shift, numbers & mask
    for key in keys:
        left, right = right, left ^ (_hash(right + key) & mask)
    return (left << shift) | right


def _hash(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
