"""Why the losses of two runs, or of two rows, cannot be compared."""

from __future__ import annotations

from typing import Any

from ablate.config import evaluations
from ablate.report.analysis.verdicts import Row


def difference(row: Row, control: Row, whose: str) -> str:
    """Why the losses of two rows cannot be compared; empty where they can. `whose` says in words who `control` is."""
    if not row.done or not control.done:
        return ""
    for who, mixed in (("its own", row.mixed), (whose, control.mixed)):
        if mixed:
            return f"{mixed} in some of {who} runs"
    return unlike((row.settings, row.data, row.schema), (control.settings, control.data, control.schema))


Made = tuple[dict[str, Any], dict[str, Any], int]  # the settings of a run, its data, the schema of its identity


def unlike(one: Made, other: Made) -> str:
    """Why two runs cannot be compared; empty where they can."""
    if one[2] != other[2]:
        return "different identity schema"
    if one[0] and other[0]:
        for part in ("tokenizer", "objective", "length", "evaluation"):
            if _part(one[0], part) != _part(other[0], part):
                return f"different {part}"
    return "different data" if one[1].get("sha256") != other[1].get("sha256") else ""


def _part(settings: dict[str, Any], part: str) -> Any:
    objective = settings.get("objective") or {}
    if part == "length":
        return objective.get("length")
    if part == "objective":
        return {key: value for key, value in objective.items() if key != "length"}
    if part == evaluations.GROUP:  # what is measured after training makes no losses incomparable
        return evaluations.measured_in_training(settings.get(part) or {})
    return settings.get(part)
