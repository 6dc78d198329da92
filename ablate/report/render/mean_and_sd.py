"""A mean over seeds and its standard deviation, as text."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ablate.report.analysis.verdicts import mean, spread
from ablate.report.text import fixed


def mean_and_sd(values: Iterable[float], places: int) -> str:
    """`70.2 ± 0.4`; without the sd where there is one value, a dash where there is none."""
    values = list(values)
    centre, width = mean(values), spread(values)
    return fixed(centre, places) + (f" ± {fixed(width, places)}" if math.isfinite(width) else "")
