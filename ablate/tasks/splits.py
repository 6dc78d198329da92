"""A validation part: held out of the training file, where no other is at hand; and some items of many."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ablate.tasks.example import Example

SHARE = 5  # one of so many passages is held out
HELD_OUT = f"one in {SHARE} passages of the training file, by a hash of the passage"


def is_held_out(text: str) -> bool:
    """Whether a passage belongs to the validation part: the same in every run, whatever the order of the file."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % SHARE == 0


def limited(examples: Sequence[Example], limit: int | None) -> list[Example]:
    """At most `limit` items, null for all: the passages in an order of no meaning, but always the same; an item is an
    example, or all the examples of a `group`."""
    ordered = sorted(examples, key=lambda one: (hashlib.sha256(_passage(one).encode()).digest(), one.id))
    items = list(dict.fromkeys(one.group or one.id for one in ordered))
    if limit is None or len(items) <= limit:
        return list(examples)
    chosen = set(items[:limit])
    return [one for one in ordered if (one.group or one.id) in chosen]


def divided(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Training and validation part; all examples of one passage (`split_key`) are in the same."""
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[is_held_out(_passage(example))].append(example)
    return parts


def _passage(example: Example) -> str:
    return example.split_key or example.inputs
