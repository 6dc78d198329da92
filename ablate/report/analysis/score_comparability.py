"""Why the scores of two runs cannot be compared: what was judged was not the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# What a score's source says of what was judged, in words. The scorer's version is not among them: it is listed with
# those of all packages, and makes no row incomparable, as another version of torch does not.
_JUDGED = {
    "tasks": "tasks in the average",
    "metric": "metric",
    "sha256": "files",
    "split": "split",
    "splits": "splits",
    "part": "part of the split",
    "task_version": "version of the task",
    "num_fewshot": "number of examples in the prompt",
    "prompts_sha256": "prompts",
}


def difference(pairs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Why scores, each of a row and of its control at the same seed, cannot be compared; empty where they can.

    Of runs from before scores said what they are, nothing is known that would differ.
    """
    for one, other in pairs:
        if not one or not other:
            continue
        sources = one.get("source") or {}, other.get("source") or {}
        for key, words in _JUDGED.items():
            if sources[0].get(key) != sources[1].get(key):
                return f"different {words}"
        if one.get("items") != other.get("items"):
            return f"judged on {_items(one)}, the other on {_items(other)}"
        if one.get("unit") != other.get("unit"):
            return "different unit"
    return ""


def _items(score: Mapping[str, Any]) -> str:
    return "an unknown number of items" if score.get("items") is None else f"{score['items']} items"
