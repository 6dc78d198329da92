"""curves.csv of a report: the points of each run's curves, a line each, read as what a stranger may have written."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

from ablate.errors import UserError
from ablate.report.text import csv_plain, csv_text, one_line
from ablate.run import json_text
from ablate.run.record import LARGEST, LARGEST_COUNT, is_loss

FILE = "curves.csv"
COLUMNS = ("row", "seed", "kind", "step", "loss")
LOSSES = ("train", "validation")  # kinds whose points are losses by step
GRADIENT_NORM = "gradient_norm"  # a kind whose points are norms by step; any other is of a score: points (x, y)
MOST_BYTES = 512 * 2**20
LOSS = "%.5g"
MOST_DIGITS = 16  # of a whole number
Point = tuple[float, float]
Run = tuple[str, int, str]  # row, seed, kind


def kind_of_history(score: str) -> str:
    """The kind of a score by the step after which it was taken; the name alone is the kind of the score's curve."""
    return f"{score} by step"


def text_of(curves: Mapping[Run, list[Point]]) -> str:
    """The text of the file; the same curves give the same bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (row, seed, kind), points in curves.items():
        name = csv_text(row)
        writer.writerows((name, seed, kind, step, LOSS % loss) for step, loss in points)
    return text.getvalue()


def is_kept_by_writing(curves: Mapping[Run, list[Point]]) -> bool:
    """Whether each run is found again under its own name in what `text_of` wrote."""
    return all(row == csv_plain(csv_text(row)) and kind == one_line(kind) for row, _, kind in curves)


def as_written(curves: Mapping[Run, list[Point]]) -> dict[Run, list[Point]]:
    """What `read` gives of the text of `curves`: losses with as many digits as there, runs without a point left out."""
    return {run: [(step, float(LOSS % loss)) for step, loss in points] for run, points in curves.items() if points}


def read(path: Path) -> dict[Run, list[Point]]:
    """What `text_of` wrote; raises `UserError` naming the line that cannot be used."""
    curves: dict[Run, list[Point]] = {}
    number = 1
    try:
        text = json_text.read_text(path, MOST_BYTES)
        for number, cells in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            if number == 1 and tuple(cells) != COLUMNS:
                raise ValueError(f"the columns must be {','.join(COLUMNS)}")
            if number > 1:
                run, point = _point(cells)
                curves.setdefault(run, []).append(point)
        if not text:
            raise ValueError(f"the columns must be {','.join(COLUMNS)}")
    except FileNotFoundError:
        raise UserError(f"no {path.name} in {path.parent}; it belongs next to records.jsonl") from None
    except (OSError, csv.Error, ValueError) as error:
        raise UserError(f"{path}, line {number}: not in the format of loss curves ({error})") from None
    return curves


def is_point(kind: str, step: float, loss: float) -> bool:
    """Whether a curve can have this point: a loss or a norm at a step, or two finite numbers of a score's curve."""
    if kind in LOSSES:
        return 1 <= step <= LARGEST and is_loss(loss)
    if kind == GRADIENT_NORM:
        return 1 <= step <= LARGEST and 0 <= loss <= LARGEST_COUNT
    return abs(step) <= LARGEST_COUNT and abs(loss) <= LARGEST_COUNT


def _point(cells: list[str]) -> tuple[Run, Point]:
    if len(cells) != len(COLUMNS) or not all(cells):
        raise ValueError(f"a line has {len(COLUMNS)} values, and this one {sum(map(bool, cells))}")
    row, seed, kind, step, loss = cells
    if row != one_line(row) or kind != one_line(kind):
        raise ValueError(f"{row!r:.40}, {kind!r:.20} is no line of printable text")
    if not (seed.isascii() and seed.isdigit() and len(seed) <= MOST_DIGITS):
        raise ValueError(f"{seed!r:.40} is no seed")
    point = _number(step), _number(loss)
    if not is_point(kind, *point):
        raise ValueError(f"a {kind[:20]} curve has no point ({step[:20]}, {loss[:20]})")
    return (csv_plain(row), int(seed), kind), point


def _number(text: str) -> float:
    """A whole number as such, so that it is written as it was read."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]!r} is no number")
    return value
