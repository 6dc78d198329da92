"""A validation part that is held out of the training file, where no other is at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ablate.tasks.example import Example

SHARE = 5  # one of so many passages is held out
HELD_OUT = f"one in {SHARE} passages of the training file, by a hash of the passage"


def is_held_out(text: str) -> bool:
    """Whether a passage belongs to the validation part: the same in every run, whatever the order of the file."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % SHARE == 0


def order_of(example: Example) -> tuple[bytes, str]:
    """A key to sort by, for taking some of many: the passages in an order of no meaning, each one's items together."""
    return hashlib.sha256((example.split_key or example.inputs).encode()).digest(), example.id


def divided(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Training and validation part; all examples of one passage (`split_key`) are in the same."""
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[is_held_out(example.split_key or example.inputs)].append(example)
    return parts
