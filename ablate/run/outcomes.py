"""What an evaluation found of each item of a task: a file of JSON lines, beside the run.

    {"schema": 1, "task": "piqa", "key": "...", "items": 900, "sha256": "...", "scores": {...}}
    {"id": 0, "right": 1.0, "log_likelihoods": [-61.2, -64.9], "values": {"piqa_margin": 0.04}}
    ...

The first line says what the others are, and has their hash; no line has any text of the task. A file is written whole
or not at all, so that a task whose file is there need not be scored again. The key is a hash of all that the outcomes
follow from: the weights, the data, the prompts, the scorer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.run import json_text
from ablate.run.files import atomic_write, sha256
from ablate.run.score import Score

SCHEMA = 1
ENDING = ".jsonl"
MOST_BYTES = 2**30  # of a file


@dataclass(frozen=True)
class Item:
    """The outcome of one item.

    id: the item's number in its test set, from 0, or a name of its own; the same for every model that is asked.
    right: 1 or 0, or a share of a point; None where nothing is right or wrong, as in a perplexity.
    log_likelihoods: of its answers, in nats, in the order in which the task has them.
    values: what the item adds to each score whose value is a mean over items, by the score's name.
    """

    id: int | str
    right: float | None = None
    log_likelihoods: tuple[float, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The item as plain JSON; what does not apply is left out."""
        content: dict[str, Any] = {"id": self.id}
        if self.right is not None:
            content["right"] = self.right
        if self.log_likelihoods:
            content["log_likelihoods"] = list(self.log_likelihoods)
        if self.values:
            content["values"] = dict(self.values)
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Item:
        """The item that `to_json` wrote."""
        right = content.get("right")
        return cls(
            content["id"],
            None if right is None else float(right),
            tuple(float(value) for value in content.get("log_likelihoods", ())),
            {str(name): float(value) for name, value in content.get("values", {}).items()},
        )


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a task's items, and the scores that they came to.

    failed: scores of the task that could not be taken, each with the reason.
    """

    task: str
    key: str
    items: tuple[Item, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def values(self, score: str) -> dict[int | str, float]:
        """What each item adds to a score, by the item's id; empty where that score is no mean over items."""
        return {item.id: item.values[score] for item in self.items if score in item.values}


def file_name(task: str) -> str:
    """The name of a task's file in the folder of its evaluation."""
    return f"{task}{ENDING}"


def write(folder: Path, outcomes: Outcomes) -> str:
    """Write a task's file into `folder`, and return its SHA-256."""
    body = "".join(_line(item.to_json()) for item in outcomes.items)
    head = {
        "schema": SCHEMA,
        "task": outcomes.task,
        "key": outcomes.key,
        "items": len(outcomes.items),
        "sha256": _sha256(body),
        "scores": {name: score.to_json() for name, score in outcomes.scores.items()},
        "failed": dict(outcomes.failed),
    }
    path = folder / file_name(outcomes.task)
    atomic_write(path, _line(head) + body)
    return sha256(path)


def read(path: Path) -> Outcomes:
    """The outcomes in a file; raises `OSError`, or `ValueError` where it is damaged or of a newer version."""
    first, _, body = json_text.read_text(path, MOST_BYTES).partition("\n")
    head = json_text.parse(first)
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        raise ValueError(f"its first line is not that of outcomes of schema {SCHEMA}")
    if _sha256(body) != head.get("sha256"):
        raise ValueError("its lines are not those that its first line has the hash of")
    try:
        items = tuple(Item.from_json(json_text.parse(line)) for line in body.splitlines())
        scores = {name: Score.from_json(content) for name, content in head["scores"].items()}
        return Outcomes(head["task"], head["key"], items, scores, head.get("failed", {}))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it lacks what outcomes have ({error})") from None


def kept(folder: Path, task: str, key: str) -> Outcomes | None:
    """A task's outcomes in `folder`, if they are whole and have this key."""
    try:
        found = read(folder / file_name(task))
    except (OSError, ValueError):
        return None
    return found if (found.task, found.key) == (task, key) else None


def key_of(parts: Iterable[object]) -> str:
    """A key: 64 hex digits, the hash of plain values in their order."""
    return _sha256(json.dumps([*parts], sort_keys=True, ensure_ascii=True))


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, allow_nan=False, separators=(", ", ": ")) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
