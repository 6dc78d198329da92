"""Numbers of scores as text, with as many decimals as their noise makes meaningful."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable, ScoreVerdict
from ablate.report.analysis.verdicts import BETTER, UNDECIDED, WORSE
from ablate.report.render.mean_and_sd import mean_and_sd
from ablate.report.text import fixed, interval, is_number, significant

JUDGED = (BETTER, WORSE, UNDECIDED, AT_CHANCE)  # verdicts that the evidence gives
PRIMARY, EXPLORATORY = "primary", "exploratory"  # the two families of scores
ROUNDING = 1e-9  # of the largest value: what is smaller is a matter of rounding
FEWEST, MOST, USUAL = 1, 5, 2  # decimals; the usual number where the noise is not known


def places_of(table: ScoreTable) -> int:
    """How many decimals show the noise of the baseline's seeds with two digits."""
    if not table.noise > 0:
        return USUAL
    return min(MOST, max(FEWEST, 1 - math.floor(math.log10(table.noise))))


def value_of(table: ScoreTable, row: str) -> str:
    """Mean and sd of a row over its seeds; a dash where it has no value."""
    return mean_and_sd(table.values.get(row, ()), places_of(table))


def difference_of(table: ScoreTable, found: ScoreVerdict) -> str:
    """The difference to the control, in the score's unit."""
    return fixed(found.comparison.delta, places_of(table), signed=True)


def limits_of(table: ScoreTable, found: ScoreVerdict) -> str:
    """The interval of the difference."""
    return interval(found.comparison.low, found.comparison.high, places_of(table))


def size_of(table: ScoreTable, found: ScoreVerdict) -> str:
    """How large a difference is, and its interval: 1.20 (0.31 to 2.09)."""
    size = fixed(abs(found.comparison.delta), places_of(table))
    return f"{size} ({limits_of(table, found)})"


def is_negligible(table: ScoreTable, value: float) -> bool:
    """Whether a distance is no more than what rounding leaves of the score's values."""
    known = [abs(value) for values in table.values.values() for value in values if math.isfinite(value)]
    return abs(value) <= ROUNDING * max(known, default=0.0)


def distance_of(table: ScoreTable, value: float) -> str:
    """A standard error or another distance, with two digits."""
    return significant(0.0 if is_negligible(table, value) else value)


def has_values(table: ScoreTable, row: str) -> bool:
    """Whether any run of a row has the score."""
    return any(map(math.isfinite, table.values.get(row, ())))


def chance_of(table: ScoreTable) -> str:
    """The chance level; a dash where unknown."""
    return (
        fixed(table.chance, places_of(table) if table.chance % 1 else 0) if is_number(table.chance) else fixed(None, 0)
    )


def unit_of_difference(table: ScoreTable) -> str:
    """The unit of a difference, after a number; empty where it is unknown."""
    unit = table.metric.unit
    return "percentage points" if unit.startswith("%") else unit


def forest_files(tables: Iterable[ScoreTable]) -> dict[str, str]:
    """By the name of a primary score, the file of the picture of its differences; no two are the same."""
    files: dict[str, str] = {}
    for table in tables:
        stem = f"forest_{re.sub(r'[^A-Za-z0-9._-]', '_', table.metric.name)}"
        while f"{stem}.png" in files.values():
            stem += "_"
        files[table.metric.name] = f"{stem}.png"
    return files


def verdict_words(table: ScoreTable, found: ScoreVerdict) -> str:
    """The verdict; of an exploratory score it says that it is one."""
    is_judged = found.verdict in JUDGED
    return f"{found.verdict} ({EXPLORATORY})" if is_judged and not table.is_primary else found.verdict
