"""The tables of report.md, as lines of cells that are safe in Markdown."""

from __future__ import annotations

import math
from typing import Any

from ablate.report.analysis.verdicts import (
    BETTER,
    BUDGET_TOLERANCE,
    SAME,
    UNDECIDED,
    WORSE,
    Row,
    Verdicts,
    comparable_speeds,
    median,
    ratio,
    speed_relative_to,
)
from ablate.report.render.mean_and_sd import mean_and_sd
from ablate.report.text import (
    counted,
    decimals,
    fixed,
    interval,
    md_code,
    md_escape,
    percent,
    probability,
    relative_speed,
    scaled,
    significant,
)
from ablate.run.record import Timing
from ablate.statistics.comparison import ALPHA, FEWEST_SEEDS
from ablate.statistics.detectable import POWER
from ablate.statistics.speed_ratio import FEWEST_ROUNDS

APART = "one seed lies apart"


class MarkdownTables:
    """The tables of one report: verdicts and costs."""

    def __init__(self, verdicts: Verdicts) -> None:
        self.verdicts, self.base = verdicts, verdicts.baseline
        self.places = decimals(verdicts.noise)
        self.speeds = comparable_speeds(verdicts)

    @property
    def sections(self) -> list[dict[str, Any]]:
        """The verdict tables: a heading (empty if there is only one) and lines, the best row first."""
        tables = []
        for section in self.verdicts.sections:
            rows = [row for row in self.verdicts.ordered() if row.section == section]
            heading = md_escape(section) if len(self.verdicts.sections) > 1 else ""
            tables.append({"heading": heading, "lines": [self._verdict_line(row) for row in rows]})
        return tables

    @property
    def against(self) -> list[str]:
        """The heading of the column that says what a row is compared with; empty where that is always the baseline."""
        return ["Against"] if self.verdicts.against else []

    @property
    def expected(self) -> list[str]:
        """The heading of the column that says what the sweep file expects; empty where it expects nothing."""
        return ["Expected"] if any(row.expected for row in self.verdicts.rows) else []

    @property
    def baseline_line(self) -> str:
        """The baseline's own losses."""
        losses = f"final loss {self._loss(self.base)}, {fixed(self.base.bits_per_byte, 3)} bits per byte"
        apart = f"; {APART}" if self.base.is_apart else ""
        return f"{md_escape(self.base.label)}: {losses}, {counted(self.base.learned, 'run')}{apart}"

    def _verdict_line(self, row: Row) -> list[str]:
        comparison = row.comparison
        bold = row.verdict in (BETTER, WORSE)
        return [
            md_escape(row.label),
            *(["the baseline" if row.control == self.base.label else md_escape(row.control)] if self.against else []),
            fixed(comparison.delta, self.places, signed=True),
            interval(comparison.low, comparison.high, self.places),
            probability(comparison.p_adjusted),
            f"**{row.verdict}**" if bold else row.words,
            *([_expected(row)] if self.expected else []),
            significant(comparison.detectable) if row.verdict == UNDECIDED else "",
            self._loss(row),
            fixed(row.bits_per_byte, 3),
            f"{row.done} of {row.planned}",
            self._remarks(row),
        ]

    def _loss(self, row: Row) -> str:
        return mean_and_sd(row.final, lambda loss: fixed(loss, self.places))

    def _remarks(self, row: Row) -> str:
        remarks = ([md_escape(row.why)] if row.why else []) + kinds_of(row)
        if row.is_apart:
            remarks.append(APART)
        if abs(row.budget) > BUDGET_TOLERANCE:
            remarks.append(f"⚑ {percent(row.budget)} FLOPs")
        return "; ".join(remarks)

    @property
    def has_flags(self) -> bool:
        """Whether any row's budget is flagged."""
        return any(abs(row.budget) > BUDGET_TOLERANCE for row in self.verdicts.rows)

    @property
    def has_further_seeds(self) -> bool:
        """Whether a row is compared with one that has more seeds than they share."""
        return any(row.comparison.seeds < self.verdicts.row(row.control).learned for row in self.verdicts.rows)

    @property
    def is_paired(self) -> bool:
        """Whether the only row was tested by a paired t test against the baseline."""
        return any(row.comparison.is_paired for row in self.verdicts.rows)

    @property
    def margin(self) -> str:
        """What the verdict "the same" is within; empty where no row has it."""
        return next((row.words for row in self.verdicts.rows if row.verdict == SAME), "")

    @property
    def has_apart(self) -> bool:
        """Whether one seed of any row lies apart."""
        return any(row.is_apart for row in self.verdicts)

    @property
    def few_seeds(self) -> bool:
        """Whether verdicts rest on fewer than five seeds."""
        return any(FEWEST_SEEDS <= row.comparison.seeds < 5 for row in self.verdicts.rows)

    @property
    def alpha(self) -> str:
        """The probability that any row of the report gets a false verdict."""
        return f"{100 * ALPHA:.0f} %"

    @property
    def power(self) -> str:
        """The power at which a difference counts as detectable."""
        return f"{100 * POWER:.0f} %"

    @property
    def changes(self) -> list[list[str]]:
        """What each row changes in the baseline, and what is expected of that by whom."""
        return [
            [md_escape(row.label), _changes(row), *([_source(row)] if self.expected else [])] for row in self.verdicts
        ]

    @property
    def costs(self) -> list[list[str]]:
        """A line per row: parameters, operations, speed and memory, some relative to the baseline."""
        return [self._cost_line(row) for row in self.verdicts]

    def _cost_line(self, row: Row) -> list[str]:
        speed, relative = self.speeds[row.label], speed_relative_to(row, self.base)
        active = row.parameters["active"]
        sparse = math.isfinite(active) and active != row.parameters["total"]
        return [
            md_escape(row.label),
            scaled(row.parameters["total"]) + (f" ({scaled(active)} active)" if sparse else ""),
            scaled(row.ops_paper),
            scaled(row.flops_per_step),
            percent(ratio(row.flops_per_step * row.steps, self.base.flops_per_step * self.base.steps) - 1),
            significant(speed, 3),
            "1.00 ×" if row is self.base else relative_speed(relative),
            scaled(row.memory, "B"),
        ]

    @property
    def how_fast(self) -> str:
        """How the speeds were measured, and how far they can be trusted."""
        if not self.base.is_exclusive:
            return "Speeds are those of the training runs, whatever else ran at the time."
        timings = [row.timing for row in self.verdicts if row.timing]
        if not timings:
            return (
                "Speeds were measured one row at a time, with no other run under way. What else the machine did is not "
                "known, and their rounds were not kept: a ratio may be off by a fifth."
            )
        text = (
            "Speeds were measured one row at a time, with no other run under way, in rounds over all rows. *Speed* is "
            "the geometric mean of the rounds' ratios, with its 95 % interval (Student's t, logarithms)."
        )
        if any(len(timing.rounds) < FEWEST_ROUNDS for timing in timings):
            text += f" A ratio without an interval rests on fewer than {FEWEST_ROUNDS} rounds, too few to give one."
        return f"{text} {_load(timings)}"


def kinds_of(row: Row) -> list[str]:
    """What kind of row it is where it is not one of the changes that the sweep asks about; safe in Markdown."""
    kinds = ["A/A control"] if row.only_seeds else []
    kinds += [] if row.counts else ["control, not counted"]
    return kinds + ([f"the same runs as {md_escape(row.copy_of)}"] if row.copy_of else [])


def _changes(row: Row) -> str:
    written = " ".join(md_code(override, cell=True) for override in row.overrides) or "none"
    return f"{written} ({md_escape('; '.join(row.rounded))})" if row.rounded else written


def _source(row: Row) -> str:
    return f"{row.expected.word}: {md_escape(row.expected.source)}" if row.expected else ""


def _expected(row: Row) -> str:
    """What is expected of a row, marked where its verdict is that or another one."""
    if not row.expected:
        return ""
    mark = {True: " ✓", False: " ✗", None: ""}[row.is_as_expected]
    return f"{row.expected.word}{mark}"


def _load(timings: list[Timing]) -> str:
    """What other processes used of the machine while rows were timed."""
    loads = [load for timing in timings for load in timing.other_load]
    if not loads:
        return "What else the machine did is not known."
    before = [timing.load_before for timing in timings if timing.load_before is not None]
    first = f"{fixed(max(before), 1)} cores busy before it began and " if before else ""
    middle, busy = fixed(median(loads), 1), "" if before else "cores busy "
    most = fixed(max(loads), 1)
    return f"Other processes kept {first}{middle} {busy}(at most {most}) while rows were measured."
