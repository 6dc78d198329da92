"""What the primary scores say of the changes, in words: for the summary of a report, its headline, and a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable, ScoreVerdict
from ablate.report.analysis.verdicts import BETTER, SAME, UNDECIDED, WORSE, Verdicts
from ablate.report.render.score_text import (
    JUDGED,
    best_below_chance,
    chance_of,
    distance_of,
    is_negligible,
    number_of,
    size_of,
    unit_of_difference,
)
from ablate.report.text import are, counted, listed, md_escape, one_line, shortened
from ablate.statistics.detectable import POWER

OPPOSITE = {BETTER: WORSE, WORSE: BETTER}
MOST_SCORES = 4  # in a headline, and in a terminal
MOST_ROWS = 12  # named in a finding


@dataclass(frozen=True)
class Counted:
    """The verdicts of one score on the changes of a sweep, by verdict, in the order of the rows."""

    table: ScoreTable
    by_verdict: dict[str, list[ScoreVerdict]]

    @classmethod
    def of(cls, verdicts: Verdicts, table: ScoreTable) -> Counted:
        """The changes that have the score."""
        found: dict[str, list[ScoreVerdict]] = {}
        for row in verdicts.changes:
            if row.label in table.verdicts:
                one = table.verdicts[row.label]
                found.setdefault(one.verdict if one.verdict in JUDGED else "", []).append(one)
        return cls(table, found)

    def having(self, verdict: str) -> list[ScoreVerdict]:
        """Those with a verdict, the largest difference first; with an empty one, those without any."""
        return sorted(self.by_verdict.get(verdict, []), key=lambda one: -_size(one))

    @property
    def is_judged(self) -> bool:
        """Whether any change has a verdict."""
        return any(self.by_verdict.get(verdict) for verdict in JUDGED)

    @property
    def detectable(self) -> str:
        """The median over the rows without a difference of what would have been detected, with its unit."""
        sizes = [one.comparison.detectable for one in self.having(UNDECIDED)]
        known = [size for size in sizes if np.isfinite(size)]
        if not known or is_negligible(self.table, float(np.median(known))):
            return ""
        return f"{distance_of(self.table, float(np.median(known)))} {unit_of_difference(self.table)}".rstrip()

    @property
    def words(self) -> str:
        """How many changes have which verdict: 2 are better, none is worse and 3 are at chance."""
        parts = [f"{are(len(self.having(verdict)))} {verdict}" for verdict in (BETTER, WORSE)]
        if undecided := len(self.having(UNDECIDED)):
            size = f" (a difference of {self.detectable} is detectable)" if self.detectable else ""
            parts.append(f"{are(undecided)} undecided{size}")
        parts += [f"{are(number)} {AT_CHANCE}" for number in [len(self.having(AT_CHANCE))] if number]
        if rest := len(self.having("")):
            parts.append(f"{rest} {'has' if rest == 1 else 'have'} no verdict")
        return listed(parts)


def headline(verdicts: Verdicts) -> str:
    """The verdicts of the primary scores in a sentence; empty where none has any."""
    found = _judged(verdicts)
    parts = [f"on {shortened(one.table.metric.name)}, {one.words}" for one in found[:MOST_SCORES]]
    if rest := len(found) - len(parts):
        parts.append(f"{counted(rest, 'more score')} in the report")
    return f"Of the same changes, {'; '.join(parts)}." if parts else ""


def terminal_lines(verdicts: Verdicts) -> list[str]:
    """A line for each primary score with verdicts, naming the rows that differ."""
    found = _judged(verdicts)
    lines = []
    for one in found[:MOST_SCORES]:
        names = [
            f"{verdict}: {listed((shortened(row.row, 30) for row in rows), 3)}"
            for verdict in (BETTER, WORSE)
            if (rows := one.having(verdict))
        ]
        line = f"{one_line(one.table.metric.name)}: {one.words}"
        lines.append(f"{line}; {'; '.join(names)}" if names else line)
    more = len(found) - len(lines)
    exploratory = len(verdicts.scores.exploratory)
    rest = [f"{counted(more, 'more primary score')}"] * bool(more)
    rest += [f"{counted(exploratory, 'exploratory score')}"] * bool(exploratory)
    return [*lines, *([f"{listed(rest)} in the report"] if rest else [])]


def findings(verdicts: Verdicts) -> list[str]:
    """What each primary score with verdicts found, and where it and the loss disagree; safe in Markdown."""
    return [text for one in _judged(verdicts) for text in (_finding(one), *_beside_loss(verdicts, one))]


def _judged(verdicts: Verdicts) -> list[Counted]:
    found = (Counted.of(verdicts, table) for table in verdicts.scores.primary)
    return [one for one in found if one.is_judged]


def _finding(found: Counted) -> str:
    parts = []
    for verdict in (BETTER, WORSE):
        if rows := found.having(verdict):
            named = [f"**{md_escape(one.row)}** by {size_of(found.table, one)}" for one in rows]
            parts.append(f"{verdict}: {listed(named, MOST_ROWS)}")
    if rows := found.having(UNDECIDED):
        size = (
            f" (detectable with {100 * POWER:.0f} % power: {md_escape(found.detectable)})" if found.detectable else ""
        )
        parts.append(f"no difference detected: {_rows(rows)}{size}")
    if rows := found.having(AT_CHANCE):
        parts.append(f"at chance, like what they are compared with: {_rows(rows)}")
    if rows := found.having(""):
        parts.append(f"no verdict: {_rows(rows)}")
    if math.isfinite(best := best_below_chance(found.table)):
        parts.append(
            f"no row reaches the chance level, {chance_of(found.table)} (the best: {number_of(found.table, best)})"
        )
    return f"**Score {_name(found.table)}:** {'; '.join(parts)}."


def _beside_loss(verdicts: Verdicts, found: Counted) -> list[str]:
    """Rows of which the final loss says the opposite, and those of which only the score says something."""
    rows = {row.label: row for row in verdicts.changes}
    differing = [one for verdict in (BETTER, WORSE) for one in found.having(verdict)]
    opposed = [one for one in differing if rows[one.row].verdict == OPPOSITE[one.verdict]]
    silent = [one for one in differing if rows[one.row].verdict in (UNDECIDED, SAME)]
    name, sentences = md_escape(found.table.metric.name), []
    if opposed:
        named = [
            f"{md_escape(one.row)} ({rows[one.row].verdict} by its loss, {one.verdict} on {name})" for one in opposed
        ]
        sentences.append(f"**Loss and {name} disagree:** {listed(named, MOST_ROWS)}.")
    if silent:
        named = [f"{md_escape(one.row)} ({one.verdict})" for one in silent]
        sentences.append(
            f"**Different on {name}, with no difference detected in the final loss:** {listed(named, MOST_ROWS)}."
        )
    return sentences


def _name(table: ScoreTable) -> str:
    unit = f" ({md_escape(table.metric.unit)})" if table.metric.unit else ""
    return f"{md_escape(table.metric.name)}{unit}"


def _rows(found: list[ScoreVerdict]) -> str:
    """A few rows by name, many by their number."""
    if len(found) <= 3:
        return listed(md_escape(one.row) for one in found)
    return counted(len(found), "row")


def _size(found: ScoreVerdict) -> float:
    delta = found.comparison.delta
    return abs(delta) if np.isfinite(delta) else 0.0
