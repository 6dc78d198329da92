"""Durations as text, and as seconds."""

from __future__ import annotations

import re

UNITS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "days": 86400}  # of what one types


def duration(seconds: float | None) -> str:
    """A number of seconds as text: 48 s, 6 min, 3.2 h, 2.5 days; `?` for None."""
    if seconds is None:
        return "?"
    for limit, unit, name, digits in ((90, 1, "s", 0), (5400, 60, "min", 0), (172800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} days"


def seconds_of(text: str) -> float:
    """The seconds that 90s, 45min, 2h, 1h30min or 1.5d are; raises `ValueError` for anything else."""
    parts = re.findall(r"([\d.]+)([a-z]+)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    if any(unit not in UNITS for _, unit in parts) or not (total := sum(float(n) * UNITS[u] for n, u in parts)) > 0:
        raise ValueError(text)
    return total
