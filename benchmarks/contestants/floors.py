"""What is demanded of our speed and memory, relative to the best peer that does the same work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from . import roster

SPEED = {"llama": {"eager": 1.00, "compiled": 1.00}, "gpt2": {"eager": 1.00, "compiled": 1.00}}
SPEED["t5"] = {"eager": 1.05, "compiled": 1.00}
MEMORY = 1.00  # at most, of the leanest peer's peak, eager

Results = Sequence[dict[str, Any]]


def peers(results: Results) -> list[dict[str, Any]]:
    """Those that do the same work."""
    return [one for one in results if one["same_work"] and one["name"] != roster.OURS]


def fastest(results: Results) -> dict[str, Any] | None:
    """The peer over which our speed is least; None if there is no peer."""
    return min(peers(results), key=lambda one: one["our_speed"][0], default=None)


def leanest(results: Results) -> dict[str, Any] | None:
    """The peer with the lowest peak memory."""
    return min(peers(results), key=lambda one: one["peak_mib"], default=None)


def memory_ratio(results: Results) -> float:
    """Our peak memory over that of the leanest peer; NaN if there is none."""
    lean = leanest(results)
    ours = next(one for one in results if one["name"] == roster.OURS)
    return float("nan") if lean is None else ours["peak_mib"] / lean["peak_mib"]


def missed(families: dict[str, dict[str, Results]]) -> Iterator[str]:
    """A line for each floor that is missed."""
    for family, modes in families.items():
        for mode, results in modes.items():
            best, floor = fastest(results), SPEED[family][mode]
            if best is not None and best["our_speed"][0] < floor:
                yield f"{family}, {mode}: {best['our_speed'][0]:.2f} of the speed of {best['name']} (floor {floor:.2f})"
            ratio = memory_ratio(results)
            if mode == "eager" and ratio > MEMORY:
                lean = leanest(results)
                assert lean is not None
                yield f"{family}: {ratio:.2f} of the peak memory of {lean['name']} (at most {MEMORY:.2f})"
