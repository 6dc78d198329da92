"""A mean over seeds and its standard deviation, as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from ablate.report.analysis.verdicts import mean, spread


def mean_and_sd(values: Iterable[float], shown: Callable[[float], str]) -> str:
    """`70.2 ± 0.4`, each number as it is `shown`; without the sd where there is one value."""
    values = list(values)
    centre, width = mean(values), spread(values)
    return shown(centre) + (f" ± {shown(width)}" if math.isfinite(width) else "")
