"""What the numbers of a report measure: their unit, and the direction in which a difference is a gain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LOSS_UNIT = "nats a token"


@dataclass(frozen=True)
class Metric:
    """A number that every run has one of. Its unit is empty where the records do not say it."""

    name: str
    unit: str
    higher_is_better: bool

    @property
    def sign(self) -> int:
        """What turns a difference of this metric into one that is worse where it is larger: 1 or -1."""
        return -1 if self.higher_is_better else 1

    @property
    def described(self) -> str:
        """The name with unit and direction, as far as known."""
        direction = "higher" if self.higher_is_better else "lower"
        return f"{self.name} ({self.unit}, {direction} is better)" if self.unit else self.name


EARLY, FINAL = (Metric(name, LOSS_UNIT, higher_is_better=False) for name in ("early loss", "final loss"))


def downstream(records: Iterable[Mapping[str, Any]]) -> dict[str, Metric]:
    """The metric of each downstream score in `records`, by name, in alphabetical order.

    Records from before scores had units hold plain numbers: of them the higher is better.
    """
    found: dict[str, Metric] = {}
    for record in records:
        for name in record.get("downstream") or {}:
            score = (record.get("scores") or {}).get(name) or {}
            if not (name in found and found[name].unit):
                found[name] = Metric(name, str(score.get("unit", "")), score.get("higher_is_better") is not False)
    return dict(sorted(found.items()))
