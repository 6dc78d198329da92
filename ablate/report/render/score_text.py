"""Numbers of scores as text, with as many decimals as their noise makes meaningful."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable, ScoreVerdict
from ablate.report.analysis.verdicts import BETTER, UNDECIDED, WORSE, mean
from ablate.report.render.mean_and_sd import mean_and_sd
from ablate.report.text import MISSING, fixed, is_number, scaled, significant

JUDGED = (BETTER, WORSE, UNDECIDED, AT_CHANCE)  # verdicts that the evidence gives
PRIMARY, EXPLORATORY = "primary", "exploratory"  # the two families of scores
ROUNDING = 1e-9  # of the largest value: what is smaller is a matter of rounding
COARSE, LARGE, TEN_THOUSAND = 100.0, 1e6, 1e4  # noise, values and distances of which not every digit is shown
FEWEST, MOST, USUAL = 1, 5, 2  # decimals; the usual number where the noise is not known


def places_of(table: ScoreTable) -> int:
    """How many decimals show the noise of the baseline's seeds with two digits."""
    if not table.noise > 0:
        return USUAL
    return min(MOST, max(FEWEST, 1 - math.floor(math.log10(table.noise))))


def number_of(table: ScoreTable, value: float, *, signed: bool = False) -> str:
    """A value or a difference of the score; where tens do not matter, three digits with an SI prefix: 3.27 M."""
    largest = max(map(abs, _known(table)), default=0.0)
    if not math.isfinite(value) or not (table.noise >= COARSE or (largest >= LARGE and not table.noise > 0)):
        return fixed(value, places_of(table), signed=signed)
    sign = "−" if value < 0 else "+" if signed and value else ""
    return f"{sign}{scaled(abs(value))}"


def value_of(table: ScoreTable, row: str) -> str:
    """Mean and sd of a row over its seeds; a dash where it has no value."""
    return mean_and_sd(table.values.get(row, ()), lambda value: number_of(table, value))


def difference_of(table: ScoreTable, found: ScoreVerdict) -> str:
    """The difference to the control, in the score's unit."""
    return number_of(table, found.comparison.delta, signed=True)


def limits_of(table: ScoreTable, found: ScoreVerdict) -> str:
    """The interval of the difference; a dash where there is none."""
    low, high = found.comparison.low, found.comparison.high
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"{number_of(table, low, signed=True)} to {number_of(table, high, signed=True)}"


def size_of(table: ScoreTable, found: ScoreVerdict) -> str:
    """How large a difference is, and its interval: 1.20 (0.31 to 2.09)."""
    return f"{number_of(table, abs(found.comparison.delta))} ({limits_of(table, found)})"


def is_negligible(table: ScoreTable, value: float) -> bool:
    """Whether a distance is no more than what rounding leaves of the score's values."""
    return abs(value) <= ROUNDING * max(map(abs, _known(table)), default=0.0)


def distance_of(table: ScoreTable, value: float) -> str:
    """A standard error or another distance, with two digits."""
    if is_negligible(table, value):
        return "0"
    return scaled(value) if abs(value) >= TEN_THOUSAND else significant(value)


def detectable_of(table: ScoreTable, value: float) -> str:
    """The difference that is detected, with two digits; a dash where without any noise it has no meaning."""
    return MISSING if is_negligible(table, value) else distance_of(table, value)


def has_values(table: ScoreTable, row: str) -> bool:
    """Whether any run of a row has the score."""
    return any(map(math.isfinite, table.values.get(row, ())))


def chance_of(table: ScoreTable) -> str:
    """The chance level; a dash where unknown."""
    if not is_number(table.chance):
        return MISSING
    return fixed(table.chance, places_of(table) if table.chance % 1 else 0)


def best_below_chance(table: ScoreTable) -> float:
    """The best mean of any row where none reaches the chance level, though not all are "at chance"; else NaN."""
    means = [mean(values) for row, values in table.values.items() if has_values(table, row)]
    is_judged = any(found.verdict in (BETTER, WORSE, UNDECIDED) for found in table.verdicts.values())
    if not (table.metric.higher_is_better and means and max(means) < table.chance and is_judged):
        return math.nan
    return max(means)


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


def _known(table: ScoreTable) -> list[float]:
    return [float(value) for values in table.values.values() for value in values if math.isfinite(value)]
