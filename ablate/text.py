"""How values and tables are written for people: plain text, the same in a terminal and in a file."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any


def shown(value: Any) -> str:
    """A value as one writes it on the command line; mappings and lists as JSON."""
    if value is None or isinstance(value, (bool, list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value) or "''"


def plural(count: int, noun: str) -> str:
    """A number and its noun, "1 run" or "3 runs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def aligned(lines: Sequence[Sequence[str]], right: Collection[int] = (), gap: str = "  ") -> list[str]:
    """Lines of cells as lines of text with straight columns; those with the numbers `right` end at one place.

    No column is wider than its widest cell; blanks at the end of a line are left out.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        gap.join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
