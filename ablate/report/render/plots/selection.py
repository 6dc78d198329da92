"""Which rows the plots show where a sweep has more of them than can be read."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ablate.report.analysis.verdicts import BETTER, SAME, WORSE, Row, Verdicts
from ablate.report.text import counted

MOST_ROWS = 60  # lines of text that a page of print holds at a size that can be read
MOST_CURVES = 36  # lines of loss over training: six panels of six
FOUND = (BETTER, WORSE, SAME)


@dataclass(frozen=True)
class Selection:
    """The rows of a sweep by how much they matter to a reader: `place` maps their labels to 0 for the first one, 1 …

    First come the rows that the user named, then the control that changes only seeds, rows with a verdict, and all
    others; within each, the smallest and the largest differences in turn, so that both ends are there.
    """

    place: Mapping[str, int]

    @classmethod
    def of(cls, verdicts: Verdicts, named: Collection[str] = ()) -> Selection:
        """The rows of `verdicts`, those `named` first."""
        kinds: list[list[Row]] = [[], [], [], [], []]
        for row in verdicts.rows:
            known = math.isfinite(row.comparison.delta)
            order = (row.label in named, row.only_seeds, row.verdict in FOUND, known, True)
            kinds[order.index(True)].append(row)
        ranked = [row for kind in kinds for row in _from_both_ends(kind)]
        return cls({row.label: number for number, row in enumerate(ranked)})

    def most_important(self, rows: Iterable[Row], most: int = MOST_ROWS) -> list[Row]:
        """Those of `rows` to show, at most `most`, in their order; all of them in a sweep of `MOST_ROWS` and fewer."""
        rows = list(rows)
        if len(self.place) <= MOST_ROWS:
            return rows
        shown = {row.label for row in sorted(rows, key=lambda row: self.place[row.label])[:most]}
        return [row for row in rows if row.label in shown]


def left_out(rows: Collection[Row], shown: Collection[Row], verb: str = "shown") -> str:
    """How many of `rows` are not among those `shown`, and which these are, in a sentence; empty where none is."""
    labels = {row.label for row in shown}
    rest = [row for row in rows if row.label not in labels]
    if not rest:
        return ""
    decided = sum(row.verdict in FOUND for row in rest)
    among = f", {decided:,} of them with a verdict" if decided else ""
    return (
        f"{len(shown):,} of {counted(len(rows), 'row')} are {verb}: verdicts first, then the largest differences. "
        f"{len(rest):,} are left out{among}: see the tables."
    )


def _from_both_ends(rows: Iterable[Row]) -> list[Row]:
    """The rows by their difference, the smallest and the largest in turn; those without one last, in their order."""
    rows = list(rows)
    known = sorted((row for row in rows if math.isfinite(row.comparison.delta)), key=lambda row: row.comparison.delta)
    turns = [known[number // 2] if number % 2 == 0 else known[-1 - number // 2] for number in range(len(known))]
    return turns + [row for row in rows if not math.isfinite(row.comparison.delta)]
