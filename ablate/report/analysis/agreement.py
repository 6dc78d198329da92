"""How well our rows agree with a published table: row by row, by section, and overall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.contrasts import (
    base_of,
    compared_as,
    control_there,
    join,
    left_out,
    published_differences,
)
from ablate.report.analysis.reference import LOSSES, Published
from ablate.report.analysis.verdicts import UNLEARNED, Row, Verdicts, ratio, timed_speed
from ablate.statistics.ceiling import Ceiling, ceiling, scale_of
from ablate.statistics.comparison import Comparison
from ablate.statistics.ranks import FEWEST_ROWS, Interval, intervals, rank_correlations

SPEED = "steps_per_second"

DRIVES = 0.1  # of a rank correlation: what a section must raise it by to be named

# (our column, the published column that it is compared with)
PAIRS = (("final_loss", "final_loss"), ("early_loss", "early_loss"), ("final_loss", "early_loss"))


@dataclass(frozen=True)
class Agreement:
    """How well our rows are ordered like a published table, for one pair of columns, over all rows or one section.

    `ours`, `theirs` and `errors` (rows,): each side's differences to its own baseline, in nats a token (for speeds:
    logarithms of ratios), and the standard errors of ours. Where a row of ours is compared with another control that
    the table has, too, both sides' differences are to that one. Correlations are NaN for fewer than 5 rows, their
    intervals for fewer than 10. Of the `signs` rows with a published difference, `equal_signs` have the same sign on
    both sides; `by_chance` is how many would if the signs of each side were shuffled over the rows. `ceiling` holds
    the median and the 5 % quantile of each figure if our true differences were `scale` times the published ones and
    only seed noise, ours and theirs, came on top; it is empty where no row's noise is known.
    """

    column: str
    published: str
    section: str
    labels: list[str]
    ours: np.ndarray
    theirs: np.ndarray
    errors: np.ndarray
    spearman: float
    spearman_interval: Interval
    kendall: float
    kendall_interval: Interval
    equal_signs: int
    signs: int
    by_chance: float
    scale: float
    ceiling: Ceiling

    @property
    def beyond_noise(self) -> bool:
        """Whether the order differs from the published one by more than seed noise explains."""
        return "spearman" in self.ceiling and self.spearman < self.ceiling["spearman"][1]


@dataclass(frozen=True)
class Contradiction:
    """A row that differs from the baseline here, and in the opposite direction in the published table.

    `column` is final or early loss; `is_certain` where the published difference exceeds their known noise, too.
    `lacks` is the row's control where the table lacks it, so that its effect is in both differences or in ours alone.
    """

    label: str
    column: str
    ours: float
    theirs: float
    is_certain: bool
    lacks: str = ""


def without_lacking(verdicts: Verdicts, published: Published) -> tuple[list[str], list[Agreement]]:
    """The controls that the table lacks, and the agreements without the rows that are compared with them here."""
    joined = join(verdicts, published)
    kept = [(row, label) for row, label in joined if control_there(verdicts, published, row)]
    lacking = list(dict.fromkeys(row.control for row, _ in joined if not control_there(verdicts, published, row)))
    found = [_compared(verdicts, published, kept, *pair) for pair in PAIRS] if lacking else []
    return lacking, [agreement for agreement in found if len(agreement.labels) >= FEWEST_ROWS]


def without_section(verdicts: Verdicts, published: Published) -> tuple[str, Agreement] | None:
    """The section that most of the agreement of final losses rests on, and the agreement without it.

    It is the one without which Spearman's correlation is lowest, of those without which 5 rows are left; None where no
    section raises it by a tenth.
    """
    joined = join(verdicts, published)
    whole = _spearman_of(verdicts, published, joined)
    figures = {}
    for section in dict.fromkeys(row.section for row, _ in joined):
        figure = _spearman_of(verdicts, published, [pair for pair in joined if pair[0].section != section])
        if np.isfinite(figure) and figure < whole - DRIVES:
            figures[section] = figure
    if not figures:
        return None
    section = min(figures, key=lambda name: figures[name])
    rest = [pair for pair in joined if pair[0].section != section]
    return section, _compared(verdicts, published, rest, *PAIRS[0])


def _spearman_of(verdicts: Verdicts, published: Published, joined: Sequence[tuple[Row, str]]) -> float:
    """Spearman's correlation of final losses; NaN below 5 rows."""
    ours = np.array([compared_as(verdicts, published, row, "final_loss").delta for row, _ in joined])
    theirs = published_differences(verdicts, published, joined, "final_loss")
    known = np.isfinite(ours + theirs)
    return rank_correlations(ours[known], theirs[known])[0] if known.sum() >= FEWEST_ROWS else np.nan


def agreements(verdicts: Verdicts, published: Published) -> list[Agreement]:
    """Our losses against the published ones for each pair of columns with at least 5 rows."""
    joined = join(verdicts, published)
    found = [_compared(verdicts, published, joined, *pair) for pair in PAIRS]
    return [agreement for agreement in found if len(agreement.labels) >= FEWEST_ROWS]


def by_section(verdicts: Verdicts, published: Published) -> list[Agreement]:
    """Our final losses against the published ones, section by section; below 5 rows only signs are compared."""
    found = []
    for section in verdicts.sections:
        joined = [(row, label) for row, label in join(verdicts, published) if row.section == section]
        found.append(_compared(verdicts, published, joined, *PAIRS[0], section))
    return [agreement for agreement in found if agreement.labels]


def of_speed(verdicts: Verdicts, published: Published) -> Agreement | None:
    """Our speeds from the timing pass against the published ones, each relative to its baseline; None below 5 rows."""
    agreement = _compared(verdicts, published, join(verdicts, published), SPEED, SPEED)
    return agreement if len(agreement.labels) >= FEWEST_ROWS else None


def with_diverged_last(verdicts: Verdicts, published: Published) -> float:
    """Spearman of final losses, with rows that diverged or learned nothing here ranked below all others."""
    rows = join(verdicts, published) + [
        (row, label) for row, label in left_out(verdicts, published) if row.verdict in UNLEARNED
    ]
    deltas = (compared_as(verdicts, published, row, "final_loss").delta for row, _ in rows)
    ours = np.array([np.inf if row.verdict in UNLEARNED else d for (row, _), d in zip(rows, deltas, strict=True)])
    theirs = published_differences(verdicts, published, rows, "final_loss")
    known = np.isfinite(theirs)
    return rank_correlations(ours[known], theirs[known])[0] if np.isfinite(ours).any() else np.nan


def contradictions(verdicts: Verdicts, published: Published) -> list[Contradiction]:
    """Rows that are better here, beyond our noise, and worse in the published table, or the reverse.

    Certain are those whose published losses differ by more than two standard deviations of their runs. Published final
    losses come from one run each, so the deviations of the early losses are used for them.
    """
    found, base = [], base_of(verdicts, published)
    for row, label in join(verdicts, published):
        theirs = published.rows[label]
        for column in LOSSES[::-1]:
            comparison = compared_as(verdicts, published, row, column)
            (difference,) = map(float, published_differences(verdicts, published, [(row, label)], column))
            control = published.rows[control_there(verdicts, published, row) or base]
            spread = np.hypot(_published_noise(theirs, column), _published_noise(control, column))
            if comparison.differs and comparison.delta * difference < 0:
                certain = bool(abs(difference) > 2 * spread)
                lacks = "" if control_there(verdicts, published, row) else row.control
                found.append(Contradiction(row.label, column, comparison.delta, difference, certain, lacks))
    return found


def _published_noise(row: dict[str, float], column: str) -> float:
    """The standard deviation of one published run; 0 where none is published."""
    known = (row.get(f"{name}_std", np.nan) for name in (column, "early_loss"))
    return next((value for value in known if np.isfinite(value)), 0.0)


def _published_error(row: dict[str, float], column: str) -> float:
    """The standard error of a published loss, which may be the mean of several runs."""
    runs = row.get(f"{column}_runs", np.nan)
    return _published_noise(row, column) / math.sqrt(runs if runs > 0 else 1.0)


def _compared(
    verdicts: Verdicts,
    published: Published,
    joined: Sequence[tuple[Row, str]],
    column: str,
    theirs: str,
    section: str = "",
) -> Agreement:
    rows, labels = [row for row, _ in joined], [label for _, label in joined]
    their_rows = [published.rows[label] for label in (base_of(verdicts, published), *labels)]
    their_errors = np.array([_published_error(row, theirs) for row in their_rows])
    if column == SPEED:
        here, errors = _speed_ratios(verdicts, rows), np.full((2, len(rows)), np.nan)
        there = np.log([ratio(row.get(SPEED, np.nan), their_rows[0].get(SPEED, np.nan)) for row in their_rows[1:]])
    else:
        here, errors = _differences([compared_as(verdicts, published, row, column) for row in rows])
        there = published_differences(verdicts, published, joined, theirs)
    both = np.isfinite(here + there) if rows else np.zeros(0, dtype=bool)
    labels = [row.label for row, known in zip(rows, both, strict=True) if known]
    their_errors = their_errors[np.r_[True, both]]
    return _agreement(column, theirs, section, labels, here[both], there[both], errors[:, both], their_errors)


def _differences(comparisons: Sequence[Comparison]) -> tuple[np.ndarray, np.ndarray]:
    """Our differences of a loss (rows,), and (2, rows): their standard errors, each row's own part.

    A row with too few seeds for an error of its own gets the median one of a single run, over the root of its seeds.
    """
    seeds = np.array([max(1, found.seeds) for found in comparisons])
    errors = np.array([[found.error for found in comparisons], [found.own_error for found in comparisons]]).reshape(
        2, -1
    )
    known = np.isfinite(errors).all(0)
    if known.any():
        usual = np.median((errors * np.sqrt(seeds))[:, known], axis=1, keepdims=True)
        errors = np.where(known, errors, usual / np.sqrt(seeds))
    return np.array([found.delta for found in comparisons]), errors


def _speed_ratios(verdicts: Verdicts, rows: Sequence[Row]) -> np.ndarray:
    """Logarithms of our speeds over the baseline's; NaN where the timing pass gives no interval of the ratio."""
    return np.log([timed_speed(row, verdicts.baseline).ratio for row in rows])


def _agreement(
    column: str,
    published: str,
    section: str,
    labels: list[str],
    ours: np.ndarray,
    theirs: np.ndarray,
    errors: np.ndarray,
    their_errors: np.ndarray,
) -> Agreement:
    spearman, kendall = rank_correlations(ours, theirs)
    spearman_interval, kendall_interval = intervals(spearman, kendall, len(labels))
    has_sign = theirs != 0
    scale, limits = np.nan, {}
    if len(labels) >= FEWEST_ROWS and np.isfinite(errors).all():
        scale = scale_of(ours, theirs, errors[0])
        # error of a difference^2 = row's part^2 + baseline's part^2, and the baseline's is common to all rows
        of_baseline = np.sqrt(np.median(np.maximum(errors[0] ** 2 - errors[1] ** 2, 0.0)))
        limits = ceiling(theirs, scale, np.r_[of_baseline, errors[1]], their_errors)
    # Two independent signs are equal with chance pq + (1 - p)(1 - q), where p and q are the shares of negative ones.
    negative, negative_there = (
        (ours[has_sign] < 0).mean() if has_sign.any() else 0.0,
        (theirs[has_sign] < 0).mean() if has_sign.any() else 0.0,
    )
    return Agreement(
        column=column,
        published=published,
        section=section,
        labels=labels,
        ours=ours,
        theirs=theirs,
        errors=errors[0],
        spearman=spearman,
        spearman_interval=spearman_interval,
        kendall=kendall,
        kendall_interval=kendall_interval,
        equal_signs=int((np.sign(ours[has_sign]) == np.sign(theirs[has_sign])).sum()),
        signs=int(has_sign.sum()),
        by_chance=float(has_sign.sum() * (negative * negative_there + (1 - negative) * (1 - negative_there))),
        scale=scale,
        ceiling=limits,
    )
