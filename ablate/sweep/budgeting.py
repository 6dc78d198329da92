"""`budget=2h`: as many seeds as can be trained in that time, evenly over all rows, contexts and rungs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablate.duration import duration
from ablate.errors import UserError
from ablate.study.budget import Budget, fewer
from ablate.study.definition import Seeds
from ablate.sweep.outlook import Outlook


def fitted(name: str, outlooks: Sequence[Outlook], seconds: float) -> Budget | None:
    """The seeds that a sweep has within so many seconds; None where nothing is known of how long its runs take.

    Raises `UserError` with what would fit where three seeds of each row take longer.
    """
    asked = outlooks[0].sweep.seeds
    total = math.nan
    for seeds in fewer(asked):
        total = sum(outlook.time(seeds)[0] for outlook in outlooks)
        if math.isnan(total):
            return None
        if total <= seconds:
            return Budget(seconds, total, asked, seeds)
    jobs = max(outlook.jobs for outlook in outlooks)
    raise UserError(
        f"{name}: budget={_short(seconds)} is not enough: with {_said(seeds)} it takes about {duration(total)} "
        f"(jobs={jobs}); budget={_short(1.05 * total)} fits, or about {max(0.01, seconds / total):.0%} of the rows, "
        "by only=, or of the steps"
    )


def said(budget: Budget) -> str:
    """What was taken away, in a line."""
    within = f"about {duration(budget.forecast)} of budget={_short(budget.seconds)}"
    if budget.left == budget.asked:
        return f"all seeds fit: {within}"
    return f"{_said(budget.left)} instead of {_said(budget.asked)}: {within}"


def _said(seeds: Seeds) -> str:
    if seeds.baseline == seeds.rows:
        return f"{seeds.rows} seeds of every row"
    return f"{seeds.baseline} seeds of the baseline and {seeds.rows} of each other row"


def _short(seconds: float) -> str:
    """As one types it, 90s, 45min or 2.5h, rounded up."""
    for limit, unit, name, places in ((120, 1, "s", 0), (7200, 60, "min", 0), (math.inf, 3600, "h", 1)):
        if seconds <= limit:
            factor = 10**places
            return f"{math.ceil(round(seconds / unit * factor, 6)) / factor:g}{name}"
    raise AssertionError("the last limit is infinite")
