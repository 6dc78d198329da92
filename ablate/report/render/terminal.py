"""The verdicts of a sweep as some lines of plain text, for the end of a command that made its report."""

from __future__ import annotations

import math

from ablate.report.analysis.verdicts import BETTER, SAME, WORSE, Row, Verdicts
from ablate.report.render import score_findings
from ablate.report.render.summary import headline
from ablate.report.text import MISSING, decimals, fixed, interval, one_line, shortened
from ablate.text import aligned

MOST = 15  # rows that are shown
LONGEST_LABEL, LONGEST_REASON = 40, 48  # characters


def lines_of(verdicts: Verdicts) -> list[str]:
    """What was found, in one sentence and a table: the rows with a verdict before the others, the best first; then a
    line for each primary score.

    Of more than `MOST` rows, those with the largest differences, and how many are left out.
    """
    places = decimals(verdicts.noise)
    ranked = sorted(verdicts.rows, key=lambda row: (not _is_decided(row), not _is_known(row), -_size(row)))
    shown = sorted(ranked[:MOST], key=lambda row: (not _is_known(row), row.comparison.delta if _is_known(row) else 0.0))
    against = [row for row in shown if row.control != verdicts.baseline.label]
    heads = ["change", "difference", "interval", "verdict"]
    table = aligned([heads, *(_cells(row, places, row in against) for row in shown)], right=(1,))
    left_out = len(ranked) - len(shown)
    return [
        f"{one_line(headline(verdicts))}.",
        *(f"  {line}" for line in table),
        *([f"  {left_out} more in the report"] if left_out else []),
        *score_findings.terminal_lines(verdicts),
    ]


def _cells(row: Row, places: int, names_control: bool) -> list[str]:
    found = row.comparison
    limits = interval(found.low, found.high, places)
    label = shortened(row.label, LONGEST_LABEL) + (f" (against {shortened(row.control)})" if names_control else "")
    return [label, fixed(found.delta, places, signed=True), "" if limits == MISSING else limits, _verdict(row)]


def _verdict(row: Row) -> str:
    """The verdict, with the reason why there is none, and how it stands to what the sweep file expects."""
    reason = f" ({shortened(row.why, LONGEST_REASON)})" if row.why else ""
    expected = {True: ", as expected", False: f", {row.expected.word} was expected" if row.expected else "", None: ""}
    return f"{row.words}{reason}{expected[row.is_as_expected]}"


def _is_decided(row: Row) -> bool:
    return row.verdict in (BETTER, WORSE, SAME)


def _is_known(row: Row) -> bool:
    return math.isfinite(row.comparison.delta)


def _size(row: Row) -> float:
    return abs(row.comparison.delta) if _is_known(row) else 0.0
