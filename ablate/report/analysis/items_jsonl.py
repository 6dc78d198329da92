"""items.jsonl of a report: what each item adds to each score of each run, read as what a stranger may have written.

    {"ids":"9f2c…","one":100.0,"row":"GeGLU","score":"piqa","seed":0,"values":"0110…"}
    {"ids":"9f2c…","row":"GeGLU","score":"piqa_margin","seed":0,"values":[0.0412,-0.113,…]}

A line has the values of one score of one run in the order of the items' ids, of which it has a hash, never the items
themselves. Values that are all 0 or one other number, `one` (1 where it is left out), are a string of digits; others
have four significant digits.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablate.run import json_text
from ablate.run.score import LARGEST

FILE = "items.jsonl"
MOST_BYTES = 512 * 2**20
DIGITS = "%.4g"
_SHARES = re.compile("[01]+")
_IDS = re.compile("[0-9a-f]{16}")
Run = tuple[str, int, str]  # row, seed, score


@dataclass(frozen=True, eq=False)
class ItemValues:
    """What each item adds to a score, (items,), in the order of the ids that `ids` is a hash of."""

    ids: str
    values: np.ndarray

    @classmethod
    def of(cls, by_id: Mapping[int | str, float]) -> ItemValues:
        """The values by the items' ids, with as many digits as the file has."""
        order = sorted(by_id, key=lambda one: (isinstance(one, str), one))
        digest = hashlib.sha256(json.dumps(order).encode()).hexdigest()[:16]
        return cls(digest, np.array([float(DIGITS % by_id[one]) + 0.0 for one in order]))  # -0 as 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemValues) and self.ids == other.ids and np.array_equal(self.values, other.values)


def text_of(items: Mapping[Run, ItemValues]) -> str:
    """The text of the file; the same items give the same bytes."""
    return "".join(f"{_line(*run, values)}\n" for run, values in items.items())


def read(path: Path) -> tuple[dict[Run, ItemValues], dict[int, str]]:
    """What `text_of` wrote, and what is wrong with each line that cannot be used; both empty without a file.

    Of a file that cannot be read at all, that is said of its first line.
    """
    try:
        lines = json_text.read_text(path, MOST_BYTES).splitlines()
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError) as error:
        return {}, {1: f"the file cannot be read ({error})"}
    found: dict[Run, ItemValues] = {}
    damaged: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            run, values = _parsed(json_text.parse(line))
        except ValueError as error:
            damaged[number] = "not JSON" if isinstance(error, json.JSONDecodeError) else f"cannot be used: {error}"
            continue
        if found.setdefault(run, values) != values:
            damaged[number] = f"{run[2]} of {run[0]}, seed {run[1]}, is there twice, and differs; the first is taken"
    return found, damaged


def _line(row: str, seed: int, score: str, items: ItemValues) -> str:
    others = np.unique(items.values[items.values != 0])
    content: dict[str, Any] = {"ids": items.ids, "row": row, "score": score, "seed": seed}
    if len(others) > 1:
        values = f"[{','.join(DIGITS % value for value in items.values)}]"
    else:
        if len(others) and others[0] != 1:
            content["one"] = float(others[0])
        values = '"' + "".join(np.where(items.values != 0, "1", "0")) + '"'
    head = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f'{head[:-1]},"values":{values}}}'  # "values" comes last in the alphabet, too


def _parsed(content: Any) -> tuple[Run, ItemValues]:
    """A line's run and values; raises `ValueError` for what is not in the format."""
    if not isinstance(content, dict):
        raise ValueError("must be a mapping")
    row, score, ids = (_text(content, key) for key in ("row", "score", "ids"))
    seed = content.get("seed")
    if type(seed) is not int or seed < 0:
        raise ValueError("seed must be a whole number")
    if not _IDS.fullmatch(ids):
        raise ValueError("ids must be 16 hex digits")
    return (row, seed, score), ItemValues(ids, _values(content.get("values"), content.get("one", 1)))


def _text(content: Mapping[str, Any], key: str) -> str:
    text = content.get(key)
    if not isinstance(text, str) or not text:
        raise ValueError(f"{key} must be a string")
    return text


def _values(values: Any, one: Any) -> np.ndarray:
    if isinstance(values, str) and _SHARES.fullmatch(values) and _is_value(one):
        return np.where(np.frombuffer(values.encode(), dtype=np.uint8) == ord("1"), float(one), 0.0)
    if isinstance(values, list) and values and all(map(_is_value, values)):
        return np.array(values, dtype=float)
    raise ValueError("values must be a string of 0 and 1, or a list of numbers")


def _is_value(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST
