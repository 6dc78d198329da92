r"""table.tex: the sweep as a table for a paper, in the manner of Narang et al. 2021, as wide as the text.

It is no float: put ``\input{table}`` into a table of your own, with your caption. It needs booktabs only, and fits the
narrowest usual text, 345 pt of `article`: its first column breaks long labels, the others have a few characters.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Iterable, Iterator, Sequence

from ablate.report.analysis.verdicts import (
    BASELINE,
    BETTER,
    NO_VERDICT,
    NOT_COMPARABLE,
    SAME,
    UNLEARNED,
    WORSE,
    Row,
    Verdicts,
    comparable_speeds,
    mean,
    score_places,
    spread,
)
from ablate.report.render.latex import beyond_pdflatex, latex_breakable, latex_escape
from ablate.report.text import MISSING, counted, decimals, fixed, interval, listed, scaled, shortened

HEADS = ("Row", "Params", "Ops", "Step/s", "Early", "Final loss", r"$\Delta$", r"Interval", "$n$")
ALIGNED = "rrrrrrcr"  # all columns but the first
ROW_WIDTH = {3: 0.22, 4: 0.17}  # of the text's, by the number of decimals
LONGEST_HEADING = 45  # characters of a section's name: wider than all columns together, it would widen the last one
SCORE_ROW_WIDTH, SCORE_WIDTH, SCORES = 0.28, 0.13, 5  # of the text's; scores in one table
BOLD, DAGGER, ALIKE, APART = r"\textbf", r"\dag", r"$\approx$", "*"
END = r"\tabularnewline"  # of a line whose last cell may be ragged, which gives the usual command another meaning


def table_tex(verdicts: Verdicts) -> str:
    r"""The rows by section, the baseline first; scores of evaluations in tables of their own; a legend."""
    rows, tasks = list(verdicts), list(verdicts.metrics)
    foreign = "".join(beyond_pdflatex(text) for text in (*_texts(rows), *tasks))
    places = min(max(ROW_WIDTH), decimals(verdicts.noise))
    marks = {control: _letters(number) for number, control in enumerate(verdicts.against)}
    speeds = comparable_speeds(verdicts)

    def cells(row: Row) -> list[str]:
        return _cells(row, speeds[row.label], marks.get(row.control, ""), places)

    columns = rf"p{{{ROW_WIDTH[places]}\textwidth}}@{{\extracolsep{{\fill}}}}{ALIGNED}"
    lines = [
        r"% needs \usepackage{booktabs}",
        *([f"% needs XeLaTeX or LuaLaTeX, and a font that has {' '.join(dict.fromkeys(foreign))}"] if foreign else []),
        r"\begingroup\scriptsize\setlength{\tabcolsep}{1.5pt}\noindent",
        *_tabular(columns, HEADS, verdicts, cells),
    ]
    for first in range(0, len(tasks), SCORES):
        some = tasks[first : first + SCORES]
        heads = ["Row", *(rf"\raggedright {latex_breakable(task)}" for task in some)]
        width = rf"p{{{SCORE_WIDTH}\textwidth}}"
        columns = rf"p{{{SCORE_ROW_WIDTH}\textwidth}}@{{\extracolsep{{\fill}}}}" + width * len(some)
        scored = [row for row in rows if row.downstream]
        lines += [r"\par\medskip\noindent", *_tabular(columns, heads, verdicts, _scores_of(verdicts, some), scored)]
    legend = " ".join(_legend(verdicts, marks))
    lines += [rf"\par\smallskip\noindent\begin{{minipage}}{{\textwidth}}\raggedright {legend}\end{{minipage}}"]
    return "\n".join([*lines, r"\par\endgroup", ""])


def _texts(rows: Iterable[Row]) -> list[str]:
    return [text for row in rows for text in (row.label, row.section)]


def _letters(number: int) -> str:
    """a to z, aa to zz, ...: what marks the rows of one control."""
    repeats, place = divmod(number, len(string.ascii_lowercase))
    return string.ascii_lowercase[place] * (repeats + 1)


def _tabular(
    columns: str,
    heads: Sequence[str],
    verdicts: Verdicts,
    cells: Callable[[Row], list[str]],
    rows: Sequence[Row] | None = None,
) -> Iterator[str]:
    yield rf"\begin{{tabular*}}{{\textwidth}}{{@{{}}{columns}@{{}}}}"
    yield r"\toprule"
    yield f"{' & '.join(heads)} {END}"
    section = None
    for row in verdicts if rows is None else rows:
        if row.section != section:
            yield r"\midrule"
            if row.verdict != BASELINE and len(verdicts.sections) > 1:
                heading = rf"\emph{{{latex_escape(shortened(row.section, LONGEST_HEADING))}}}"
                yield rf"\multicolumn{{{len(heads)}}}{{@{{}}l@{{}}}}{{{heading}}} {END}"
            section = row.section
        # The braces keep a label that begins with [ or * from being read as an argument of the command before it.
        yield rf"{{}}\raggedright {latex_breakable(row.label)} & {' & '.join(map(_dashes, cells(row)))} {END}"
    yield r"\bottomrule"
    yield r"\end{tabular*}"


def _dashes(cell: str) -> str:
    return cell.replace("−", "$-$").replace(MISSING, "--")


def _cells(row: Row, speed: float, control: str, places: int) -> list[str]:
    is_base = row.verdict == BASELINE
    return [
        scaled(row.parameters["total"]),
        scaled(row.ops_paper),
        fixed(speed, 2 if speed < 100 else 0),
        fixed(mean(row.early), places),
        _plus_minus(row.final, places),
        "" if is_base else _difference(row, control, places),
        "" if is_base else _interval(row, places),
        str(row.learned),
    ]


def _difference(row: Row, control: str, places: int) -> str:
    text = fixed(row.comparison.delta, places, signed=True)
    marks = {WORSE: DAGGER, SAME: ALIKE}.get(row.verdict, "") + (APART if row.is_apart else "") + control
    text = rf"{BOLD}{{{text}}}" if row.verdict == BETTER else text
    return text + (rf"\textsuperscript{{{marks}}}" if marks else "")


def _interval(row: Row, places: int) -> str:
    """The interval; why there is no verdict where there is none."""
    if row.verdict in UNLEARNED:
        return f"{row.verdict}: {row.diverged + row.lost} of {row.planned}"
    if row.verdict == NOT_COMPARABLE:
        return NOT_COMPARABLE
    if row.verdict == NO_VERDICT:
        return counted(row.comparison.seeds, "seed")
    return interval(row.comparison.low, row.comparison.high, places)


def _plus_minus(losses: Iterable[float], places: int) -> str:
    losses = list(losses)
    centre, width = mean(losses), spread(losses)
    return fixed(centre, places) + (rf" $\pm$ {fixed(width, places)}" if math.isfinite(width) else "")


def _scores_of(verdicts: Verdicts, tasks: Sequence[str]) -> Callable[[Row], list[str]]:
    return lambda row: [fixed(mean(row.downstream.get(task, [])), score_places(verdicts, task)) for task in tasks]


def _legend(verdicts: Verdicts, marks: dict[str, str]) -> Iterator[str]:
    """What the columns and marks are, a sentence each."""
    how = "one row at a time, with no other run under way" if verdicts.baseline.is_exclusive else "during training"
    yield "Params: parameters. Ops: multiply-accumulates of a forward pass over a batch, as Narang et al. (2021) count."
    yield f"Step/s: training steps per second, measured {how}."
    yield r"Early and final loss: held-out, in nats per token; mean (final: $\pm$ standard deviation) over $n$ seeds."
    controls = listed([rf"\textsuperscript{{{mark}}}{latex_escape(label)}" for label, mark in marks.items()], 30)
    others = f" (rows marked by a letter: of {controls})" if marks else ""
    yield rf"$\Delta$: final loss minus that of {latex_escape(verdicts.baseline.label)}{others}, over shared seeds."
    yield r"Interval: of $\Delta$; all of them hold together with 95\,\% confidence."
    same = next((row.words for row in verdicts.rows if row.verdict == SAME), "")
    alike = rf" {ALIKE}: {latex_escape(same)} nats;" if same else ""
    yield rf"Bold: better; \textsuperscript{{{DAGGER}}}: worse;{alike} no mark: no difference detected, or no verdict."
    if any(row.is_apart for row in verdicts.rows):
        yield rf"\textsuperscript{{{APART}}}: one seed lies apart."
    if any(row.verdict in (*UNLEARNED, NOT_COMPARABLE, NO_VERDICT) for row in verdicts.rows):
        yield "In place of an interval: why there is no verdict."
    if verdicts.metrics:
        described = listed([latex_breakable(metric.described) for metric in verdicts.metrics.values()], 100)
        yield f"Scores: means over seeds; {described}."
