"""table.tex: the sweep as a table for a paper, in the manner of Narang et al. 2021, as wide as the text."""

from __future__ import annotations

from collections.abc import Iterator

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
)
from ablate.report.render import score_latex
from ablate.report.render.latex import latex_escape
from ablate.report.render.latex_table import (
    ALIKE,
    APART,
    DAGGER,
    controls_of,
    document,
    letters_of,
    marked,
    tabular,
    texts_of,
)
from ablate.report.render.mean_and_sd import mean_and_sd
from ablate.report.text import counted, decimals, fixed, interval, scaled

HEADS = ("Row", "Params", "Ops", "Step/s", "Early", "Final loss", r"$\Delta$", r"Interval", "$n$")
ALIGNED = "rrrrrrcr"  # all columns but the first
ROW_WIDTH = {3: 0.22, 4: 0.17}  # of the text's, by the number of decimals


def table_tex(verdicts: Verdicts) -> str:
    """The rows by section, the baseline first; primary scores in tables of their own; a legend."""
    primary = verdicts.scores.primary
    places = min(max(ROW_WIDTH), decimals(verdicts.noise))
    letters, speeds = letters_of(verdicts), comparable_speeds(verdicts)

    def cells(row: Row) -> list[str]:
        return _cells(row, speeds[row.label], letters.get(row.control, ""), places)

    columns = rf"p{{{ROW_WIDTH[places]}\textwidth}}@{{\extracolsep{{\fill}}}}{ALIGNED}"
    tables = [tabular(columns, HEADS, verdicts, cells), *score_latex.columns_of(verdicts, primary)]
    texts = [*texts_of(verdicts), *(table.metric.name for table in primary)]
    return document(tables, _legend(verdicts, letters), texts)


def _cells(row: Row, speed: float, control: str, places: int) -> list[str]:
    is_base = row.verdict == BASELINE
    return [
        scaled(row.parameters["total"]),
        scaled(row.ops_paper),
        fixed(speed, 2 if speed < 100 else 0),
        fixed(mean(row.early), places),
        mean_and_sd(row.final, lambda loss: fixed(loss, places)),
        "" if is_base else _difference(row, control, places),
        "" if is_base else _interval(row, places),
        str(row.learned),
    ]


def _difference(row: Row, control: str, places: int) -> str:
    text = fixed(row.comparison.delta, places, signed=True)
    marks = {WORSE: DAGGER, SAME: ALIKE}.get(row.verdict, "") + (APART if row.is_apart else "") + control
    return marked(text, marks, is_better=row.verdict == BETTER)


def _interval(row: Row, places: int) -> str:
    """The interval; why there is no verdict where there is none."""
    if row.verdict in UNLEARNED:
        return f"{row.verdict}: {row.diverged + row.lost} of {row.planned}"
    if row.verdict == NOT_COMPARABLE:
        return NOT_COMPARABLE
    if row.verdict == NO_VERDICT:
        return counted(row.comparison.seeds, "seed")
    return interval(row.comparison.low, row.comparison.high, places)


def _legend(verdicts: Verdicts, letters: dict[str, str]) -> Iterator[str]:
    """What the columns and marks are, a sentence each."""
    how = "one row at a time, with no other run under way" if verdicts.baseline.is_exclusive else "during training"
    yield "Params: parameters. Ops: multiply-accumulates of a forward pass over a batch, as Narang et al. (2021) count."
    yield f"Step/s: training steps per second, measured {how}."
    yield r"Early and final loss: held-out, in nats per token; mean (final: $\pm$ standard deviation) over $n$ seeds."
    of_baseline = f"{latex_escape(verdicts.baseline.label)}{controls_of(letters)}"
    yield rf"$\Delta$: final loss minus that of {of_baseline}, over shared seeds."
    yield r"Interval: of $\Delta$; all of them hold together with 95\,\% confidence."
    same = next((row.words for row in verdicts.rows if row.verdict == SAME), "")
    alike = rf" {ALIKE}: {latex_escape(same)} nats;" if same else ""
    yield rf"Bold: better; \textsuperscript{{{DAGGER}}}: worse;{alike} no mark: no difference detected, or no verdict."
    if any(row.is_apart for row in verdicts.rows):
        yield rf"\textsuperscript{{{APART}}}: one seed lies apart."
    if any(row.verdict in (*UNLEARNED, NOT_COMPARABLE, NO_VERDICT) for row in verdicts.rows):
        yield "In place of an interval: why there is no verdict."
    if primary := verdicts.scores.primary:
        yield f"Scores: means over seeds; {score_latex.described(primary)}."
        yield from score_latex.at_chance_legend(primary)
