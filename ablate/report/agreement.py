"""How far our rows agree with a published table: row by row, by section, and as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablate.report.reference import LOSSES, Published
from ablate.report.statistics import Comparison
from ablate.report.verdicts import HAS_DIVERGED, NOT_COMPARABLE, Row, Verdicts, comparable_speeds, ratio

LEFT_OUT = (NOT_COMPARABLE, HAS_DIVERGED)
SPEED = "steps_per_second"
FEWEST_ROWS = 5  # a rank correlation over fewer says nothing
FEWEST_FOR_AN_INTERVAL = 10  # below, Fisher's z is narrower than chance
SIMULATIONS = 4000
CONFIDENCE = 0.95


# our number, the published one that it stands beside
PAIRS = (("final_loss", "final_loss"), ("early_loss", "early_loss"), ("final_loss", "early_loss"))


@dataclass(frozen=True)
class Agreement:
    """How far the order of our rows is that of a published table, for one pair of columns, in all or in one section.

    `ours` and `theirs` are differences to each one's own baseline, in nats a token (of speeds: logarithms of ratios),
    `errors` the standard errors of ours. Correlations are NaN over fewer than 5 rows, their intervals over fewer than
    10. `by_chance` is how many signs would be equal if each side had its signs on other rows. `ceiling` holds the median and
    the lower 5 % of each figure that our seed noise would leave if our true differences were the published ones,
    times `scale`; it is empty where no row's noise is known.
    """

    column: str
    published: str
    section: str
    labels: list[str]
    ours: np.ndarray
    theirs: np.ndarray
    errors: np.ndarray
    spearman: float
    spearman_interval: tuple[float, float]
    kendall: float
    kendall_interval: tuple[float, float]
    equal_signs: int
    signs: int
    by_chance: float
    scale: float
    ceiling: dict[str, tuple[float, float]]

    @property
    def beyond_noise(self) -> bool:
        """Whether the order is further from the published one than our seed noise explains."""
        return "spearman" in self.ceiling and self.spearman < self.ceiling["spearman"][1]


@dataclass(frozen=True)
class Contradiction:
    """A row that differs from the baseline here, and the other way there; `column` is final or early loss."""

    label: str
    column: str
    ours: float
    theirs: float


def join(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    """Our rows that the table has, too, with the label there."""
    base = base_of(verdicts, published)
    found = [(row, published.find(row.label)) for row in verdicts.rows if row.verdict not in LEFT_OUT]
    return [(row, label) for row, label in found if label and label != base]


def base_of(verdicts: Verdicts, published: Published) -> str:
    """The published row that our baseline stands for: the one of its label, else the table's own baseline."""
    return published.find(verdicts.baseline.label) or published.baseline


def agreements(verdicts: Verdicts, published: Published) -> list[Agreement]:
    """Our losses against the published ones, pair by pair of columns, over at least 5 rows each."""
    joined = join(verdicts, published)
    found = [_compared(verdicts, published, joined, *pair) for pair in PAIRS]
    return [agreement for agreement in found if len(agreement.labels) >= FEWEST_ROWS]


def by_section(verdicts: Verdicts, published: Published) -> list[Agreement]:
    """Our final losses against the published ones, section by section; below 5 rows only signs are told."""
    found = []
    for section in verdicts.sections:
        joined = [(row, label) for row, label in join(verdicts, published) if row.section == section]
        found.append(_compared(verdicts, published, joined, *PAIRS[0], section))
    return [agreement for agreement in found if agreement.labels]


def of_speed(verdicts: Verdicts, published: Published) -> Agreement | None:
    """Our steps a second against the published ones, each relative to its baseline; None below 5 rows."""
    agreement = _compared(verdicts, published, join(verdicts, published), SPEED, SPEED)
    return agreement if len(agreement.labels) >= FEWEST_ROWS else None


def contradictions(verdicts: Verdicts, published: Published) -> list[Contradiction]:
    """Rows that are better here and worse there, or the other way round, beyond our noise and what is known of theirs.

    Published losses count where they differ by two standard deviations of their runs; of final losses, which are of one
    run each, the early ones' deviations are all that is known.
    """
    found, base = [], published.rows[base_of(verdicts, published)]
    for row, label in join(verdicts, published):
        theirs = published.rows[label]
        for column in LOSSES[::-1]:
            comparison, difference = _comparison(row, column), theirs.get(column, np.nan) - base.get(column, np.nan)
            spread = np.hypot(_published_noise(theirs, column), _published_noise(base, column))
            if comparison.differs and comparison.delta * difference < 0 and abs(difference) > 2 * spread:
                found.append(Contradiction(row.label, column, comparison.delta, difference))
    return found


def _published_noise(row: dict[str, float], column: str) -> float:
    """The standard deviation of one published run; 0 where none is told."""
    known = (row.get(f"{name}_std", np.nan) for name in (column, "early_loss"))
    return next((value for value in known if np.isfinite(value)), 0.0)


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
    rows = [row for row, _ in joined]
    base = published.rows[base_of(verdicts, published)].get(theirs, np.nan)
    there = np.array([published.rows[label].get(theirs, np.nan) for _, label in joined])
    if column == SPEED:
        here, errors = _speed_ratios(verdicts, rows), np.full((2, len(rows)), np.nan)
        there = np.log(there / base)
    else:
        here, errors = _differences(rows, column)
        there = there - base
    both = np.isfinite(here + there) if rows else np.zeros(0, dtype=bool)
    labels = [row.label for row, known in zip(rows, both, strict=True) if known]
    return _agreement(column, theirs, section, labels, here[both], there[both], errors[:, both])


def _differences(rows: Sequence[Row], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Our differences of a loss to the baseline's; their standard errors, and each row's own part in them (2,rows)."""
    comparisons = [_comparison(row, column) for row in rows]
    errors = [[found.error for found in comparisons], [found.own_error for found in comparisons]]
    return np.array([found.delta for found in comparisons]), np.array(errors).reshape(2, -1)


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
) -> Agreement:
    count = len(labels)
    spearman, kendall = rank_correlations(ours, theirs)
    told = theirs != 0
    scale, ceiling = _ceiling(ours, theirs, *errors)
    below, below_there = (ours[told] < 0).mean() if told.any() else 0.0, (theirs[told] < 0).mean() if told.any() else 0.0
    interval = count >= FEWEST_FOR_AN_INTERVAL
    return Agreement(
        column=column,
        published=published,
        section=section,
        labels=labels,
        ours=ours,
        theirs=theirs,
        errors=errors[0],
        spearman=spearman,
        # Fisher's z; its variance after Bonett and Wright 2000 for Spearman, after Fieller et al. 1957 for Kendall.
        spearman_interval=_fisher(spearman if interval else np.nan, (1 + spearman**2 / 2) / max(1, count - 3)),
        kendall=kendall,
        kendall_interval=_fisher(kendall if interval else np.nan, 0.437 / max(1, count - 4)),
        equal_signs=int((np.sign(ours[told]) == np.sign(theirs[told])).sum()),
        signs=int(told.sum()),
        by_chance=float(told.sum() * (below * below_there + (1 - below) * (1 - below_there))),
        scale=scale,
        ceiling=ceiling,
    )


def rank_correlations(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Spearman's and Kendall's, NaN over fewer than 5 rows or where all of a side are equal."""
    if len(ours) < FEWEST_ROWS or not (np.ptp(ours) and np.ptp(theirs)):
        return np.nan, np.nan
    return float(stats.spearmanr(ours, theirs)[0]), float(stats.kendalltau(ours, theirs)[0])


def _ceiling(
    ours: np.ndarray, theirs: np.ndarray, errors: np.ndarray, own: np.ndarray
) -> tuple[float, dict[str, tuple[float, float]]]:
    """What seed noise alone leaves of a perfect agreement, simulated with a fixed seed.

    The published differences, scaled to the size that ours have beyond their noise, are taken as the truth; each then
    gets its row's own noise and all of them the baseline's.
    """
    if len(ours) < FEWEST_ROWS or not np.isfinite(errors).any():
        return np.nan, {}
    noise, own = (np.where(np.isfinite(part), part, np.nanmedian(part)) for part in (errors, own))
    beyond = max(0.0, float(np.mean(ours**2) - np.mean(noise**2)))
    scale = float(np.sqrt(beyond / np.mean(theirs**2))) if np.any(theirs) else 0.0
    generator = np.random.default_rng(2021)
    of_baseline = np.sqrt(np.median(np.maximum(noise**2 - own**2, 0.0)))
    shared = generator.normal(size=(SIMULATIONS, 1)) * of_baseline
    measured = scale * theirs + shared + generator.normal(size=(SIMULATIONS, len(theirs))) * own
    ranks, their_ranks = stats.rankdata(measured, axis=1), stats.rankdata(theirs)
    centred, their_centred = ranks - ranks.mean(1, keepdims=True), their_ranks - their_ranks.mean()
    sizes = np.sqrt((centred**2).sum(1) * (their_centred**2).sum())
    spearman = centred @ their_centred / np.where(sizes > 0, sizes, np.inf)
    upper = np.triu_indices(len(theirs), 1)
    pairs = np.sign(measured[:, upper[0]] - measured[:, upper[1]]) * np.sign(theirs[upper[0]] - theirs[upper[1]])
    told = theirs != 0
    signs = (np.sign(measured[:, told]) == np.sign(theirs[told])).sum(1) if told.any() else np.zeros(1)
    figures = {"spearman": spearman, "kendall": pairs.mean(1), "signs": signs}
    return scale, {
        name: (float(np.median(values)), float(np.quantile(values, 0.05))) for name, values in figures.items()
    }


def _fisher(correlation: float, variance: float) -> tuple[float, float]:
    if not np.isfinite(correlation):
        return np.nan, np.nan
    centre = np.arctanh(np.clip(correlation, -0.999999, 0.999999))
    reach = stats.norm.ppf(0.5 + CONFIDENCE / 2) * np.sqrt(variance)
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))


