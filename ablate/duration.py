"""Durations as text."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """A number of seconds as text: 48 s, 6 min, 3.2 h, 2.5 days; `?` for None."""
    if seconds is None:
        return "?"
    for limit, unit, name, digits in ((90, 1, "s", 0), (5400, 60, "min", 0), (172800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} days"
