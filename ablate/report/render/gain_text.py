"""What the differences are worth in compute, as a report says it: a sentence, a table and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablate.report.analysis.gains import Gains, RowGain
from ablate.report.analysis.ladder import Fall
from ablate.report.analysis.verdicts import BETTER, UNDECIDED, WORSE, Row, Verdicts
from ablate.report.text import MISSING, counted, fixed, listed, md_escape, significant
from ablate.statistics.gain import Gain

KINDS = ("tokens", "flops", "time")
GAIN_COLUMNS = tuple(f"gain_{kind}{ending}" for kind in KINDS for ending in ("", "_low", "_high"))
HEADS = ["Row", "At equal tokens", "At equal FLOPs", "At equal time", "Remarks"]
MOST_NAMED = 6


def figures(gains: Gains, row: Row) -> list[float]:
    """The cells of `GAIN_COLUMNS`: factors, NaN where unknown or not reached by the rungs."""
    found = gains.rows.get(row.label, RowGain())
    logs = [(of.log, of.low, of.high) for of in (found.tokens, found.flops, found.time)]
    return [math.exp(log) if math.isfinite(log) else math.nan for of_kind in logs for log in of_kind]


def factor(found: Gain) -> str:
    """A gain with its interval, or one of its bounds where the rungs do not reach the other; else a dash."""
    if math.isnan(found.low) and math.isnan(found.high):
        return MISSING
    low, high = (None if math.isinf(log) else fixed(math.exp(log), 2) for log in (found.low, found.high))
    limits = f"{low} to {high}" if low and high else f"above {low}" if low else f"below {high}" if high else ""
    if math.isnan(found.log):
        return f"{limits} ×" if limits else MISSING
    return f"{fixed(math.exp(found.log), 2)} ×" + (f" ({limits})" if limits else "")


class GainText:
    """The part of report.md on gains; all text is safe in Markdown."""

    def __init__(self, verdicts: Verdicts, gains: Gains, falls: Sequence[Fall] = ()) -> None:
        self.verdicts, self.gains, self.falls = verdicts, gains, falls

    @property
    def sentence(self) -> str:
        """For the beginning: the gains of the rows that differ, and the one that would be detected."""
        if self.gains.problem:
            return f"What the differences are worth in compute is not known: {md_escape(self.gains.problem)}."
        rows = sorted(self.verdicts.of(BETTER, WORSE), key=lambda row: -abs(row.comparison.delta))
        known = {row.label: worth for row in rows if (worth := factor(self.gains.rows[row.label].tokens)) != MISSING}
        named = [f"{md_escape(label)} {worth}" for label, worth in known.items()]
        text = f"Worth so many times the tokens: {listed(named, MOST_NAMED)}." if named else ""
        sizes = [self.gains.detectable(row.comparison.detectable) for row in self.verdicts.of(UNDECIDED)]
        sizes = [size for size in sizes if math.isfinite(size)]
        if sizes:
            low, high = significant(min(sizes), 3), significant(max(sizes), 3)
            size = low if low == high else f"{low} to {high}"
            text += f" A gain of {size} × is detected with 80 % power."
        return text.strip()

    @property
    def how(self) -> list[str]:
        """What the gains rest on."""
        rungs, runs = self.gains.rungs, self.gains.runs
        there = listed([f"{value:g} × ({counted(count, 'run')})" for value, count in runs.items()])
        lines = [f"The baseline at other budgets, each with a whole schedule: {there} the tokens of the rows."]
        if rungs is not None:
            slope = fixed(rungs.slope, 3)
            lines.append(
                f"At the rows' own budget its loss falls by {slope} nats as the tokens grow by a factor of e, and by "
                f"{fixed(rungs.slope * math.log(2), 3)} as they double. This is the slope of tokens at this size: a "
                "larger model, or more tokens, has another one."
            )
        return lines + [self._ladder(fall) for fall in self.falls]

    def _ladder(self, fall: Fall) -> str:
        """The slope of the ladder between two sizes, in the unit of the rungs' slope."""
        first, second = fall.first, fall.second
        return (
            f"Along the sizes, from {md_escape(first.name)} to {md_escape(second.name)} "
            f"({significant(second.parameters / first.parameters, 2)} × the parameters, "
            f"{significant(second.tokens / first.tokens, 2)} × the tokens), its loss falls by {fixed(fall.slope, 3)} ± "
            f"{fixed(fall.half, 3)} nats as the FLOPs grow by a factor of e; at one size these grow as the tokens do."
        )

    @property
    def lines(self) -> list[list[str]]:
        """A line a row, the best first within each section."""
        return [self._line(row) for row in self.verdicts.ordered()]

    def _line(self, row: Row) -> list[str]:
        found = self.gains.rows[row.label]
        remarks = []
        if math.isfinite(found.tokens.needs):
            remarks.append(f"a rung at {found.tokens.needs:g} would tell more")
        if row.verdict == UNDECIDED and math.isfinite(size := self.gains.detectable(row.comparison.detectable)):
            remarks.append(f"detectable: {significant(size, 3)} ×")
        figures_of = [factor(of) for of in (found.tokens, found.flops, found.time)]
        return [md_escape(row.label), *figures_of, "; ".join(remarks)]
