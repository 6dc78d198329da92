"""The report's numbers as tables: results.csv and evidence.csv (a line per row), runs.csv (per run), downstream.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ablate.report.analysis.forecast import Score
from ablate.report.analysis.results import Results
from ablate.report.analysis.score_verdicts import ScoreTable
from ablate.report.analysis.verdicts import (
    BASELINE,
    Row,
    Verdicts,
    comparable_speeds,
    mean,
    spread,
    timed_speed,
)
from ablate.report.render import forecast_text, gain_text
from ablate.report.render.score_text import EXPLORATORY, PRIMARY, verdict_words
from ablate.report.text import csv_text
from ablate.run.score import SPREAD
from ablate.statistics.speed_ratio import SpeedRatio

RESULT_COLUMNS = (
    "row",
    "section",
    "runs",
    "parameters",
    "ops_paper",
    "flops_per_step",
    "steps_per_second",
    "speed_ratio",
    "speed_ratio_low",
    "speed_ratio_high",
    "timing_rounds",
    "early_loss",
    "early_loss_std",
    "final_loss",
    "final_loss_std",
    "delta",
    "delta_low",
    "delta_high",
    "p_adjusted",
    "verdict",
    "against",
)
EVIDENCE_COLUMNS = (
    "row",
    "section",
    "against",
    "shared_seeds",
    "delta",
    "standard_error",
    "p",
    "p_adjusted",
    "delta_low",
    "delta_high",
    "minimum_detectable_effect",
    "verdict",
    "why",
    "expected",
    "expected_by",
    "budget_difference",
    "bits_per_byte",
    "counts",
    "only_seeds",
    "copy_of",
    "one_seed_apart",
    "planned",
    "done",
    "diverged",
    "failed",
    "missing",
)
SCORE_ENDINGS = (SPREAD, "_delta", "_low", "_high", "_p_adjusted", "_verdict")
DOWNSTREAM_COLUMNS = (
    *("score", "family", "unit", "higher_is_better", "chance", "items"),
    *("row", "section", "against", "runs", "mean", "std"),
    *("shared_seeds", "delta", "standard_error_of_seeds", "standard_error_of_items", "item_noise"),
    *("p", "p_adjusted", "alpha", "delta_low", "delta_high"),
    *("minimum_detectable_effect", "verdict", "why", "item_note", "not_comparable_because"),
)


def results_csv(verdicts: Verdicts, forecast: Score | None = None) -> str:
    """A line per row, the baseline first; after the fixed columns those of each score, the primary ones first.

    Where the size was foreseen, the columns of the forecast stand before those of scores.
    """
    tables = [*verdicts.scores.tables.values()]
    speeds = comparable_speeds(verdicts)
    gains, context = verdicts.gains, verdicts.context
    lines = []
    for row in verdicts:
        scores = [figure for table in tables for figure in _score(table, row.label)]
        relative = SpeedRatio() if row is verdicts.baseline else timed_speed(row, verdicts.baseline)
        worth = gain_text.figures(gains, row) if gains else []
        foreseen = forecast_text.figures(forecast, row.label) if forecast else []
        fixed = [*([context] if context else []), *_result(row, speeds[row.label], relative), *worth]
        lines.append([*fixed, *foreseen, *scores])
    columns = [*(["context"] if context else []), *RESULT_COLUMNS, *(gain_text.GAIN_COLUMNS if gains else [])]
    columns += forecast_text.COLUMNS if forecast else []
    return csv_of([*columns, *score_columns([table.metric.name for table in tables])], lines)


def score_columns(names: Sequence[str]) -> list[str]:
    """The columns of scores: of each its name, then that with the endings.

    Where a name with an ending is another score, or a column that is there anyway, underscores tell it apart.
    """
    taken = {*names, "context", *RESULT_COLUMNS, *gain_text.GAIN_COLUMNS, *forecast_text.COLUMNS}
    columns = []
    for name in names:
        columns.append(name)
        for ending in SCORE_ENDINGS:
            column = f"{name}{ending}"
            while column in taken:
                column += "_"
            taken.add(column)
            columns.append(column)
    return columns


def _score(table: ScoreTable, row: str) -> list[Any]:
    """The cells of one score; empty for a row that has none."""
    values, found = table.values.get(row, np.zeros(0)), table.verdicts.get(row)
    cells: list[Any] = [mean(values), spread(values)]
    if found is None:
        return [*cells, *[math.nan] * 4, ""]
    comparison = found.comparison
    cells += [comparison.delta, comparison.low, comparison.high, comparison.p_adjusted]
    return [*cells, verdict_words(table, found)]


def downstream_csv(verdicts: Verdicts) -> str:
    """The statistics behind each verdict on a score, a line per row and score, the primary scores first."""
    lines = []
    for table in verdicts.scores.tables.values():
        for row in (row for row in verdicts if row.label in table.verdicts):
            found, values = table.verdicts[row.label], table.values.get(row.label, np.zeros(0))
            comparison, metric = found.comparison, table.metric
            lines.append(
                [
                    *(metric.name, PRIMARY if table.is_primary else EXPLORATORY, metric.unit),
                    *(int(metric.higher_is_better), table.chance, table.items),
                    *(
                        row.label,
                        row.section,
                        found.control,
                        int(np.isfinite(values).sum()),
                        mean(values),
                        spread(values),
                    ),
                    *(comparison.seeds, comparison.delta, comparison.error, comparison.item_error, found.item_noise),
                    *(comparison.p, comparison.p_adjusted, table.alpha, comparison.low, comparison.high),
                    *(comparison.detectable, found.verdict, found.why, found.item_note, table.not_comparable),
                ]
            )
    return csv_of(DOWNSTREAM_COLUMNS, lines)


def _result(row: Row, speed: float, relative: SpeedRatio) -> list[Any]:
    comparison = row.comparison
    return [
        row.label,
        row.section,
        row.done,
        row.parameters["total"],
        row.ops_paper,
        row.flops_per_step,
        speed,
        *(relative.ratio, relative.low, relative.high),
        len(row.timing.rounds) if row.timing else "",
        mean(row.early),
        spread(row.early),
        mean(row.final),
        spread(row.final),
        *(comparison.delta, comparison.low, comparison.high, comparison.p_adjusted),
        row.words,
        "" if row.verdict == BASELINE else row.control,
    ]


def evidence_csv(verdicts: Verdicts) -> str:
    """The statistics behind each verdict, a line per row."""
    lines = []
    for row in verdicts.rows:
        comparison = row.comparison
        lines.append(
            [
                *(row.label, row.section, row.control, comparison.seeds, comparison.delta, comparison.error),
                *(comparison.p, comparison.p_adjusted, comparison.low, comparison.high),
                *(comparison.detectable, row.words, row.why),
                *(row.expected or ("", "")),
                *(row.budget, row.bits_per_byte),
                *(int(row.counts), int(row.only_seeds), row.copy_of, int(row.is_apart)),
                *(row.planned, row.done, row.diverged, row.failed, row.missing),
            ]
        )
    return csv_of(EVIDENCE_COLUMNS, lines)


def runs_csv(results: Results) -> str:
    """A line per run, whatever its status."""
    return csv_of(*results.lines())


def csv_of(columns: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
    """A table as CSV; numbers that are not known are empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_text(column) for column in columns])
    writer.writerows([_cell(value) for value in line] for line in lines)
    return text.getvalue()


def _cell(value: Any) -> str:
    """Numbers with six significant digits, integers in full; text escaped so that no spreadsheet evaluates it."""
    if isinstance(value, str):
        return csv_text(value)
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**63 else f"{value:.6g}"
