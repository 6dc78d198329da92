"""From the scores of the runs of a sweep to a verdict on every row, score by score.

Scores are tested as losses are, each over the whole table of rows, with what items add to the noise of seeds. Primary
scores are one family, exploratory ones another: each score of a family gets an equal share of the error rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ablate.report.analysis import score_comparability
from ablate.report.analysis.metrics import Metric
from ablate.report.analysis.outcome_files import scores_of
from ablate.report.analysis.results import Results, number
from ablate.report.analysis.score_items import KnownNoise, ScoreItems, worst
from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable, ScoreVerdict, ScoreVerdicts
from ablate.report.analysis.verdicts import (
    BASELINE,
    BETTER,
    NO_VERDICT,
    NOT_COMPARABLE,
    UNDECIDED,
    UNLEARNED,
    WORSE,
    Row,
    Verdicts,
)
from ablate.run.record import DONE
from ablate.statistics.comparison import ALPHA, FEWEST_SEEDS, Comparison, compare
from ablate.statistics.mean_interval import mean_interval
from ablate.statistics.noise import noise_floor

UNSAID = "its source says so"  # why a score is not comparable with published ones, where no reason stands there
_TOLERANCE = 1e-9  # of chance from the end of an interval, relative


def score_verdicts(results: Results, verdicts: Verdicts) -> ScoreVerdicts:
    """The verdicts on every score of the rows whose losses have been judged."""
    exploratory = {
        name
        for record in results.records
        for name, score in scores_of(record).items()
        if record["status"] == DONE and score.get("exploratory")
    }
    names = sorted(verdicts.metrics, key=lambda name: (name in exploratory, name))
    items, seeds = ScoreItems(results), sorted({record["seed"] for record in results.records})
    tables = {}
    for name in names:
        family = sum((other in exploratory) == (name in exploratory) for other in names)
        judge = _Judge(verdicts, verdicts.metrics[name], items, seeds, _values(results, verdicts, name, seeds), family)
        tables[name] = judge.table(is_primary=name not in exploratory)
    return ScoreVerdicts(tables)


def _values(results: Results, verdicts: Verdicts, name: str, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Of each row by seed, NaN where missing; of a row that others are compared with, only of runs that learned."""
    found = {row.label: np.full(len(seeds), np.nan) for row in verdicts}
    for record in results.records:
        if record["status"] == DONE:
            found[record["row"]][seeds.index(record["seed"])] = number(record, "downstream", name)
    return {row.label: np.where(np.isnan(row.final), np.nan, found[row.label]) for row in verdicts}


@dataclass(frozen=True)
class _Judge:
    """One score of all rows; `values` by row are (seeds,), `family` is how many scores share the error rate."""

    verdicts: Verdicts
    metric: Metric
    items: ScoreItems
    seeds: Sequence[int]
    values: Mapping[str, np.ndarray]
    family: int

    @property
    def name(self) -> str:
        return self.metric.name

    def table(self, *, is_primary: bool) -> ScoreTable:
        """The table of this score."""
        baseline = self.verdicts.baseline.label
        whys = {row.label: self._why_untested(row) for row in self.verdicts.rows}
        known = {row.label: self._known(row) for row in self.verdicts.rows if not whys[row.label][0]}
        compared = self._compared(known)
        found = {baseline: ScoreVerdict(baseline, "", Comparison(int(self._there(baseline).sum())), BASELINE)}
        for row in self.verdicts.rows:
            verdict, why = whys[row.label]
            if verdict:
                comparison = Comparison(0) if verdict == NOT_COMPARABLE else self._partial(row)
                found[row.label] = ScoreVerdict(row.label, row.control, comparison, verdict, why)
            else:
                of_items = known[row.label]
                judged = self._judged(row, compared[row.label])
                found[row.label] = replace(judged, item_noise=of_items.how, item_note=of_items.note)
        first = self._first()
        source = first.get("source") or {}
        return ScoreTable(
            metric=self.metric,
            is_primary=is_primary,
            chance=self._chance,
            items=number({"score": first}, "score", "items"),
            values=dict(self.values),
            verdicts=found,
            alpha=ALPHA / self.family,
            noise=noise_floor(self.values[baseline]),
            item_noise=worst(one.how for one in known.values()),
            not_comparable=""
            if source.get("comparable", True)
            else str(source.get("not_comparable_because") or UNSAID),
        )

    def _there(self, row: str) -> np.ndarray:
        return np.asarray(~np.isnan(self.values[row]))

    def _shared(self, row: Row) -> list[int]:
        """The seeds at which a row and its control have the score."""
        there = self._there(row.label) & self._there(row.control)
        return [seed for seed, is_there in zip(self.seeds, there, strict=True) if is_there]

    def _why_untested(self, row: Row) -> tuple[str, str]:
        """The verdict of a row that is not tested, and why; two empty strings for others."""
        if row.verdict in (NOT_COMPARABLE, *UNLEARNED):
            return row.verdict, row.why
        for label, whose in ((row.label, "no run"), (row.control, f"no run of {row.control}")):
            if not self._there(label).any():
                return NO_VERDICT, f"{whose} has this score"
        shared = self._shared(row)
        pairs = ([self.items.score(label, seed, self.name) for label in (row.label, row.control)] for seed in shared)
        if why := score_comparability.difference((one, other) for one, other in pairs):
            return NOT_COMPARABLE, why
        if len(shared) < FEWEST_SEEDS:
            return NO_VERDICT, f"{len(shared)} shared seed{'' if len(shared) == 1 else 's'}, {FEWEST_SEEDS} are needed"
        return "", ""

    def _known(self, row: Row) -> KnownNoise:
        return self.items.of_difference(self.name, row.label, row.control, self._shared(row))

    def _compared(self, known: Mapping[str, KnownNoise]) -> dict[str, Comparison]:
        """The tested rows by label, all tested together, with their controls. Adjusted p count the whole family."""
        rows = {row.label: row for row in self.verdicts.rows}
        controls = {rows[label].control for label in known}
        baseline = self.verdicts.baseline.label
        members = [label for label in rows if label in known or label in controls]
        if not known:
            return {}
        place = {label: index for index, label in enumerate((baseline, *members))}
        noises = [known[label].noise if label in known else None for label in members]
        found = compare(
            np.array([self.values[label] for label in place]),
            [place.get(rows[label].control, 0) for label in members],
            [False, *(bool(rows[label].copy_of) for label in members)],
            ALPHA / self.family,
            item_error=np.array([math.nan if noise is None else math.sqrt(noise.added) for noise in noises]),
            least_error=np.array([math.nan if noise is None else math.sqrt(noise.alone) for noise in noises]),
        )
        return {
            label: replace(comparison, p_adjusted=min(1.0, comparison.p_adjusted * self.family))
            for label, comparison in zip(members, found, strict=True)
        }

    def _partial(self, row: Row) -> Comparison:
        """The mean difference over the seeds that are left of a row; it is not tested."""
        shared = self.values[row.label] - self.values[row.control]
        there = shared[~np.isnan(shared)]
        return Comparison(len(there), float(there.mean()) if len(there) else np.nan)

    def _judged(self, row: Row, comparison: Comparison) -> ScoreVerdict:
        if self._is_at_chance(row.label) and self._is_at_chance(row.control):
            return ScoreVerdict(row.label, row.control, comparison, AT_CHANCE)
        is_gain = comparison.delta * self.metric.sign < 0
        verdict = UNDECIDED if not comparison.differs else BETTER if is_gain else WORSE
        return ScoreVerdict(row.label, row.control, comparison, verdict)

    def _is_at_chance(self, row: str) -> bool:
        """Whether what guessing scores is within what the row's mean is known to."""
        there = [seed for seed, is_there in zip(self.seeds, self._there(row), strict=True) if is_there]
        low, high = mean_interval(self.values[row], self.items.of_mean(self.name, row, there).noise)
        slack = _TOLERANCE * max(1.0, abs(self._chance))
        return low - slack <= self._chance <= high + slack

    def _first(self) -> Mapping:
        """What the first record that has the score says of it, the baseline's before others."""
        for row in self.verdicts:
            for seed in self.seeds:
                if score := self.items.score(row.label, seed, self.name):
                    return score
        return {}

    @property
    def _chance(self) -> float:
        return number({"score": self._first()}, "score", "chance")
