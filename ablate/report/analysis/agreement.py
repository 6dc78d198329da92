"""How well our rows agree with a published table: row by row, by section, and overall."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.reference import LOSSES, Published
from ablate.report.analysis.verdicts import HAS_DIVERGED, NOT_COMPARABLE, Row, Verdicts, comparable_speeds, ratio
from ablate.statistics.ceiling import Ceiling, ceiling, scale_of
from ablate.statistics.comparison import Comparison
from ablate.statistics.ranks import FEWEST_ROWS, Interval, intervals, rank_correlations

LEFT_OUT = (NOT_COMPARABLE, HAS_DIVERGED)
SPEED = "steps_per_second"

# (our column, the published column that it is compared with)
PAIRS = (("final_loss", "final_loss"), ("early_loss", "early_loss"), ("final_loss", "early_loss"))


@dataclass(frozen=True)
class Agreement:
    """How well our rows are ordered like a published table, for one pair of columns, over all rows or one section.

    `ours`, `theirs` and `errors` (rows,): each side's differences to its own baseline, in nats a token (for speeds:
    logarithms of ratios), and the standard errors of ours. Correlations are NaN for fewer than 5 rows, their intervals
    for fewer than 10. Of the `signs` rows with a published difference, `equal_signs` have the same sign on both sides;
    `by_chance` is how many would if the signs of each side were shuffled over the rows. `ceiling` holds the median and
    the 5 % quantile of each figure if our true differences were `scale` times the published ones and only seed noise,
    ours and theirs, came on top; it is empty where no row's noise is known.
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
    """

    label: str
    column: str
    ours: float
    theirs: float
    is_certain: bool


def join(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    """Our rows that are in the table and have a difference to our baseline, each with its published label."""
    return [(row, label) for row, label in _named(verdicts, published) if _is_comparable(row)]


def left_out(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    """Our rows that are in the table but diverged, cannot be compared, or have no run to compare."""
    return [(row, label) for row, label in _named(verdicts, published) if not _is_comparable(row)]


def _is_comparable(row: Row) -> bool:
    return row.verdict not in LEFT_OUT and bool(np.isfinite(row.comparison.delta))


def _named(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    base = base_of(verdicts, published)
    found = [(row, published.find(row.label)) for row in verdicts.rows]
    return [(row, label) for row, label in found if label and label != base]


def base_of(verdicts: Verdicts, published: Published) -> str:
    """The published row that our baseline corresponds to: the one of its label, else the table's own baseline."""
    return published.find(verdicts.baseline.label) or published.baseline


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
    """Our steps a second against the published ones, each relative to its baseline; None below 5 rows."""
    agreement = _compared(verdicts, published, join(verdicts, published), SPEED, SPEED)
    return agreement if len(agreement.labels) >= FEWEST_ROWS else None


def published_differences(verdicts: Verdicts, published: Published, labels: Iterable[str], column: str) -> np.ndarray:
    """Published differences (rows,) to the row that our baseline corresponds to; NaN where a number is absent."""
    base = published.rows[base_of(verdicts, published)].get(column, np.nan)
    return np.array([published.rows[label].get(column, np.nan) - base for label in labels])


def with_diverged_last(verdicts: Verdicts, published: Published) -> float:
    """Spearman of final losses, with rows that diverged here ranked below all others."""
    rows = join(verdicts, published) + [
        (row, label) for row, label in left_out(verdicts, published) if row.verdict == HAS_DIVERGED
    ]
    ours = np.array([np.inf if row.verdict == HAS_DIVERGED else row.comparison.delta for row, _ in rows])
    theirs = published_differences(verdicts, published, (label for _, label in rows), "final_loss")
    known = np.isfinite(theirs)
    return rank_correlations(ours[known], theirs[known])[0] if np.isfinite(ours).any() else np.nan


def contradictions(verdicts: Verdicts, published: Published) -> list[Contradiction]:
    """Rows that are better here, beyond our noise, and worse in the published table, or the reverse.

    Certain are those whose published losses differ by more than two standard deviations of their runs. Published final
    losses come from one run each, so the deviations of the early losses are used for them.
    """
    found, base = [], published.rows[base_of(verdicts, published)]
    for row, label in join(verdicts, published):
        theirs = published.rows[label]
        for column in LOSSES[::-1]:
            comparison = _comparison(row, column)
            (difference,) = map(float, published_differences(verdicts, published, [label], column))
            spread = np.hypot(_published_noise(theirs, column), _published_noise(base, column))
            if comparison.differs and comparison.delta * difference < 0:
                certain = bool(abs(difference) > 2 * spread)
                found.append(Contradiction(row.label, column, comparison.delta, difference, certain))
    return found


def _published_noise(row: dict[str, float], column: str) -> float:
    """The standard deviation of one published run; 0 where none is published."""
    known = (row.get(f"{name}_std", np.nan) for name in (column, "early_loss"))
    return next((value for value in known if np.isfinite(value)), 0.0)


def _published_error(row: dict[str, float], column: str) -> float:
    """The standard error of a published loss, which may be the mean of several runs."""
    runs = row.get(f"{column}_runs", np.nan)
    return _published_noise(row, column) / math.sqrt(runs if runs > 0 else 1.0)


def _comparison(row: Row, column: str) -> Comparison:
    return row.comparison if column == "final_loss" else row.early_comparison


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
        here, errors = _differences(rows, column)
        there = published_differences(verdicts, published, labels, theirs)
    both = np.isfinite(here + there) if rows else np.zeros(0, dtype=bool)
    labels = [row.label for row, known in zip(rows, both, strict=True) if known]
    their_errors = their_errors[np.r_[True, both]]
    return _agreement(column, theirs, section, labels, here[both], there[both], errors[:, both], their_errors)


def _differences(rows: Sequence[Row], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Our differences of a loss to the baseline's (rows,), and (2, rows): their standard errors, each row's own part.

    A row with too few seeds for an error of its own gets the median one of a single run, over the root of its seeds.
    """
    comparisons = [_comparison(row, column) for row in rows]
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
    """Logarithms of our speeds over the baseline's."""
    speeds = comparable_speeds(verdicts)
    with np.errstate(divide="ignore"):
        return np.log([ratio(speeds[row.label], speeds[verdicts.baseline.label]) for row in rows])


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
