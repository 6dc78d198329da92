"""A sweep that is to end within a time: which seeds are taken away for that, and the note that is kept of it.

The note is `budget.json` in the folder of the sweep's runs: a report says from it what was asked and what ran.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.run.files import atomic_write, read_json
from ablate.study.definition import Seeds

FILE = "budget.json"
KEY = "budget"  # of the first line of records.jsonl
LEAST = 3  # seeds of a row: below there is no verdict


@dataclass(frozen=True)
class Budget:
    """What a sweep was to take and is forecast to take, in seconds; the seeds of its file, and those that are left."""

    seconds: float
    forecast: float
    asked: Seeds
    left: Seeds

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> Budget | None:
        """The budget that `content` describes; None where it describes none."""
        if not isinstance(content, Mapping) or set(content) != {field.name for field in dataclasses.fields(cls)}:
            return None
        times = [content["seconds"], content["forecast"]]
        if not all(type(time) in (int, float) and math.isfinite(time) and time >= 0 for time in times):
            return None
        asked, left = (_seeds(content[key]) for key in ("asked", "left"))
        return cls(times[0], times[1], asked, left) if asked and left else None


def fewer(seeds: Seeds) -> Iterator[Seeds]:
    """All seeds, and then ever fewer: of every row alike down to three, then those that the baseline has more."""
    least = min(LEAST, seeds.rows)
    for rows in range(seeds.rows, least - 1, -1):
        yield Seeds(seeds.baseline, rows)
    for baseline in range(seeds.baseline - 1, max(least, min(LEAST, seeds.baseline)) - 1, -1):
        yield Seeds(baseline, least)


def write(folder: Path, budget: Budget | None) -> None:
    """Keep the note in the folder of a sweep's runs; None takes one of an earlier time away."""
    if budget is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / FILE, json.dumps(budget.to_json(), indent=1) + "\n")


def read(folder: Path) -> Budget | None:
    """The note in the folder of a sweep's runs, if there is one."""
    return Budget.from_json(read_json(folder / FILE))


def _seeds(content: Any) -> Seeds | None:
    is_whole = isinstance(content, Mapping) and set(content) == {"baseline", "rows"}
    if not is_whole or not all(type(number) is int and 1 <= number <= 10**6 for number in content.values()):
        return None
    return Seeds(**content)
