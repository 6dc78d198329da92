"""Outputs that are the same whatever the input, by the training part: the best of them is a task's chance level."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

from ablate.tasks.example import Example

ANSWERS, TEXTS = 20, 5  # that are tried


def labels(*names: str) -> Callable[[Sequence[Example]], Sequence[str]]:
    """These, whatever the training part."""
    return lambda train: names


def most_frequent(train: Sequence[Example]) -> list[str]:
    """The answers that most examples have, the most frequent first."""
    counts = Counter(answer for example in train for answer in dict.fromkeys(example.targets))
    return [answer for answer, _ in counts.most_common(ANSWERS)]


def most_typical(train: Sequence[Example]) -> list[str]:
    """Of longer texts those that share the most pairs of words with all the others, by about the mean F1 of pairs."""
    pairs_of = {target: _pairs(target) for example in train for target in example.targets}
    counts = Counter(pair for pairs in pairs_of.values() for pair in pairs)
    mean = sum(map(len, pairs_of.values())) / len(pairs_of)
    shared = {text: sum(counts[pair] for pair in pairs) / (len(pairs) + mean + 1) for text, pairs in pairs_of.items()}
    return sorted(shared, key=lambda text: (-shared[text], text))[:TEXTS]


def _pairs(text: str) -> set[tuple[str, str]]:
    words = text.lower().split()
    return set(pairwise(words))
