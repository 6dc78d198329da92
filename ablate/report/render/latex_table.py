r"""What the LaTeX tables of a report share: rows by section, marks and their meaning, letters for controls.

They are no floats: put ``\input{table}`` into a table of your own, with your caption. They need booktabs only, and fit
the narrowest usual text, 345 pt of `article`: the first column breaks long labels, the others have a few characters.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Iterator, Sequence

from ablate.report.analysis.verdicts import BASELINE, Row, Verdicts
from ablate.report.render.latex import beyond_pdflatex, latex_breakable, latex_escape
from ablate.report.text import MISSING, listed, shortened

BOLD, DAGGER, ALIKE, APART = r"\textbf", r"\dag", r"$\approx$", "*"
END = r"\tabularnewline"  # of a line whose last cell may be ragged, which gives the usual command another meaning
LONGEST_HEADING = 45  # characters of a section's name: wider than all columns together, it would widen the last one


def document(tables: Iterable[Iterable[str]], legend: Iterable[str], texts: Iterable[str]) -> str:
    """The tables one below another, and a legend; `texts` are the strings from outside that are in them."""
    foreign = dict.fromkeys("".join(beyond_pdflatex(text) for text in texts))
    lines = [
        r"% needs \usepackage{booktabs}",
        *([f"% needs XeLaTeX or LuaLaTeX, and a font that has {' '.join(foreign)}"] if foreign else []),
        r"\begingroup\scriptsize\setlength{\tabcolsep}{1.5pt}\noindent",
    ]
    for number, table in enumerate(tables):
        lines += [r"\par\medskip\noindent"] * bool(number)
        lines += table
    told = " ".join(legend)
    lines += [rf"\par\smallskip\noindent\begin{{minipage}}{{\textwidth}}\raggedright {told}\end{{minipage}}"]
    return "\n".join([*lines, r"\par\endgroup", ""])


def tabular(
    columns: str,
    heads: Sequence[str],
    verdicts: Verdicts,
    cells: Callable[[Row], list[str]],
    rows: Sequence[Row] | None = None,
    feet: Sequence[Sequence[str]] = (),
) -> Iterator[str]:
    """A table as wide as the text: `rows`, by default all, under the names of their sections; then lines of `feet`."""
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
        yield rf"{{}}\raggedright {latex_breakable(row.label)} & {' & '.join(map(dashes, cells(row)))} {END}"
    if feet:
        yield r"\midrule"
        yield from (f"{' & '.join(map(dashes, foot))} {END}" for foot in feet)
    yield r"\bottomrule"
    yield r"\end{tabular*}"


def dashes(cell: str) -> str:
    """A cell with LaTeX's own minus signs, dashes and ±."""
    return cell.replace("−", "$-$").replace(MISSING, "--").replace("±", r"$\pm$")


def marked(text: str, marks: str, *, is_better: bool) -> str:
    """A number in bold where it is better, with its marks raised."""
    return (rf"{BOLD}{{{text}}}" if is_better else text) + (rf"\textsuperscript{{{marks}}}" if marks else "")


def letters_of(verdicts: Verdicts) -> dict[str, str]:
    """A letter for each row other than the baseline that rows are compared with: a to z, aa to zz, ..."""
    return {control: _letters(number) for number, control in enumerate(verdicts.against)}


def controls_of(letters: dict[str, str]) -> str:
    """Which row each letter stands for, in brackets; empty where there are none."""
    controls = listed([rf"\textsuperscript{{{mark}}}{latex_escape(label)}" for label, mark in letters.items()], 30)
    return f" (rows marked by a letter: of {controls})" if letters else ""


def texts_of(rows: Iterable[Row]) -> list[str]:
    """The strings from outside that a table of these rows has."""
    return [text for row in rows for text in (row.label, row.section)]


def _letters(number: int) -> str:
    repeats, place = divmod(number, len(string.ascii_lowercase))
    return string.ascii_lowercase[place] * (repeats + 1)
