"""JSON files from outside, read within bounds: of a limited size and depth, with usable numbers and strings."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 32 * 2**20  # of a file: half a second to read
MOST_DIGITS = 30  # of a whole number
DEEPEST = 50  # lists and objects within each other


def read(path: Path) -> Any:
    """The content of a JSON file; raises `OSError`, or `ValueError` with what is wrong with it."""
    return parse(read_text(path))


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file of at most `most` bytes; raises `OSError`, or `ValueError` where it is none."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most // 2**20} MiB")
    return content.decode("utf-8")


def parse(text: str) -> Any:
    """The value that a JSON text stands for; raises `ValueError` with what is wrong with it.

    Refused beside what is no JSON: NaN and infinities, numbers too large to calculate with, halves of surrogate pairs,
    a key that an object has twice, and more than `DEEPEST` levels.
    """
    try:
        content = json.loads(
            text, parse_constant=_refused, parse_float=_float, parse_int=_int, object_pairs_hook=_object
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check(content)
    return content


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)[:40]!r} is there twice")
    return found


def _check(content: Any) -> None:
    """Refuse what is nested too deeply, and strings that cannot be written."""
    level = [content]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and not value.isascii():
                _check_text(value)
        if not inner:
            return
        level = inner
    raise ValueError("it is nested too deeply")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a string has half of a surrogate pair") from None
