r"""The scores in LaTeX: the primary ones for table.tex, and downstream.tex with all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable
from ablate.report.analysis.verdicts import BASELINE, BETTER, WORSE, Row, Verdicts, mean, median
from ablate.report.render.latex import latex_breakable, latex_escape
from ablate.report.render.latex_table import (
    DAGGER,
    controls_of,
    document,
    letters_of,
    marked,
    tabular,
    texts_of,
)
from ablate.report.render.score_text import (
    chance_of,
    detectable_of,
    difference_of,
    has_values,
    limits_of,
    number_of,
    value_of,
)
from ablate.report.text import listed, probability

ROW_WIDTH, WIDTH, ABREAST = 0.28, 0.13, 5  # of the text's: of the first column, and of a score; scores in one table
AT_CHANCE_MARK = r"$\circ$"
DETAILED = ("Score", r"$\Delta$", "Interval", "$p$", "$n$")  # of one score


def downstream_tex(verdicts: Verdicts) -> str:
    """A table for each primary score, with differences and intervals; the exploratory ones side by side; a legend."""
    primary, exploratory = verdicts.scores.primary, verdicts.scores.exploratory
    tables = [_detailed(verdicts, table) for table in primary] + columns_of(verdicts, exploratory)
    names = [text for table in (*primary, *exploratory) for text in (table.metric.name, table.metric.unit)]
    return document(tables, _legend(verdicts), [*texts_of(verdicts), *names])


def columns_of(verdicts: Verdicts, tables: Sequence[ScoreTable]) -> list[Iterable[str]]:
    """Scores side by side, `ABREAST` in a table: means over seeds, with the marks of their verdicts."""
    made: list[Iterable[str]] = []
    for first in range(0, len(tables), ABREAST):
        some = tables[first : first + ABREAST]
        heads = ["Row", *(rf"\raggedright {latex_breakable(table.metric.name)}" for table in some)]
        columns = rf"p{{{ROW_WIDTH}\textwidth}}@{{\extracolsep{{\fill}}}}" + rf"p{{{WIDTH}\textwidth}}" * len(some)
        rows = [row for row in verdicts if any(has_values(table, row.label) for table in some)]
        made.append(tabular(columns, heads, verdicts, _Cells(verdicts, some), rows, [*_feet(verdicts, some)]))
    return made


def at_chance_legend(tables: Sequence[ScoreTable]) -> Iterator[str]:
    """What the mark of scores at chance means, where there are such."""
    if any(found.verdict == AT_CHANCE for table in tables for found in table.verdicts.values()):
        mark = rf"\textsuperscript{{{AT_CHANCE_MARK}}}"
        yield f"{mark}: at chance, like the score it is compared with, so that there is no verdict."


def described(tables: Iterable[ScoreTable]) -> str:
    """The scores with their units and directions."""
    return listed([latex_breakable(table.metric.described) for table in tables], 100)


class _Cells:
    """The cells of a row: a mean with its marks for each of some scores."""

    def __init__(self, verdicts: Verdicts, tables: Sequence[ScoreTable]) -> None:
        self.tables, self.letters = tables, letters_of(verdicts)

    def __call__(self, row: Row) -> list[str]:
        return [self._cell(table, row) for table in self.tables]

    def _cell(self, table: ScoreTable, row: Row) -> str:
        text = number_of(table, mean(table.values.get(row.label, np.zeros(0))))
        return _with_marks(table, row, text, self.letters)


def _with_marks(table: ScoreTable, row: Row, text: str, letters: dict[str, str]) -> str:
    found = table.verdicts.get(row.label)
    verdict = found.verdict if found else ""
    marks = {WORSE: DAGGER, AT_CHANCE: AT_CHANCE_MARK}.get(verdict, "")
    marks += letters.get(row.control, "") if verdict in (BETTER, WORSE, AT_CHANCE) else ""
    return marked(text, marks, is_better=verdict == BETTER)


def _detailed(verdicts: Verdicts, table: ScoreTable) -> Iterator[str]:
    """One score with differences and intervals."""
    letters = letters_of(verdicts)

    def cells(row: Row) -> list[str]:
        found = table.verdicts[row.label]
        value = value_of(table, row.label)
        if row.verdict == BASELINE:
            return [value, "", "", "", str(found.comparison.seeds)]
        difference = _with_marks(table, row, difference_of(table, found), letters)
        p = probability(found.comparison.p_adjusted).replace("<", "$<$")
        return [value, difference, limits_of(table, found), p, str(found.comparison.seeds)]

    heads = [rf"\raggedright {latex_breakable(table.metric.name)}", *DETAILED]
    columns = rf"p{{{ROW_WIDTH}\textwidth}}@{{\extracolsep{{\fill}}}}rrcrr"
    rows = [row for row in verdicts if row.label in table.verdicts and has_values(table, row.label)]
    return tabular(columns, heads, verdicts, cells, rows)


def _feet(verdicts: Verdicts, tables: Sequence[ScoreTable]) -> Iterator[list[str]]:
    """What chance scores, how noisy the baseline is, and what would be detected; lines with no number are left out."""
    detectable = [_detectable(table, verdicts.baseline.label) for table in tables]
    lines = (
        ("Chance", [table.chance for table in tables], map(chance_of, tables)),
        ("sd over seeds", [table.noise for table in tables], [number_of(one, one.noise) for one in tables]),
        ("Detectable", detectable, map(detectable_of, tables, detectable)),
    )
    for name, numbers, cells in lines:
        if any(map(math.isfinite, numbers)):
            yield [rf"\emph{{{name}}}", *cells]


def _detectable(table: ScoreTable, baseline: str) -> float:
    return median(found.comparison.detectable for label, found in table.verdicts.items() if label != baseline)


def _legend(verdicts: Verdicts) -> Iterator[str]:
    primary, exploratory = verdicts.scores.primary, verdicts.scores.exploratory
    tables = [*primary, *exploratory]
    base = latex_escape(verdicts.baseline.label)
    yield f"Scores: means over seeds; {described(tables)}."
    if primary:
        yield r"Score: mean $\pm$ standard deviation over seeds. $n$: seeds shared with the row it is compared with."
        yield rf"$\Delta$: the score minus that of {base}{controls_of(letters_of(verdicts))}, over shared seeds."
        yield r"Interval: of $\Delta$; all of the primary scores hold together with 95\,\% confidence. $p$: adjusted."
    yield rf"Bold: better; \textsuperscript{{{DAGGER}}}: worse; no mark: no difference detected, or no verdict."
    yield from at_chance_legend(tables)
    if exploratory:
        names = listed([latex_breakable(table.metric.name) for table in exploratory], 100)
        yield f"Exploratory, a family of their own: {names}."
        yield "sd over seeds: of the baseline. Detectable: the true difference found with 80\\,\\% power."
    if any(table.not_comparable for table in tables):
        names = listed([latex_breakable(table.metric.name) for table in tables if table.not_comparable], 100)
        yield f"Not comparable with published figures: {names}; the report says why."
