"""The report's numbers as tables: results.csv (a line per row), runs.csv (a line per run), evidence.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import (
    BASELINE,
    Row,
    Verdicts,
    comparable_speeds,
    mean,
    spread,
    timed_speed,
)
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


def results_csv(verdicts: Verdicts) -> str:
    """A line per row of the sweep, the baseline first; after the fixed columns each downstream score, mean and std."""
    tasks = list(verdicts.metrics)
    speeds = comparable_speeds(verdicts)
    lines = []
    for row in verdicts:
        scores = [figure for task in tasks for figure in _scores(row, task)]
        relative = SpeedRatio() if row is verdicts.baseline else timed_speed(row, verdicts.baseline)
        lines.append([*_result(row, speeds[row.label], relative), *scores])
    return _csv([*RESULT_COLUMNS, *(name for task in tasks for name in (task, _spread(task, tasks)))], lines)


def _spread(task: str, tasks: Sequence[str]) -> str:
    """The column of a score's standard deviation, told apart from scores of that name, as older records may have."""
    name = f"{task}{SPREAD}"
    while name in tasks:
        name += "_"
    return name


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


def _scores(row: Row, task: str) -> tuple[float, float]:
    scores = row.downstream.get(task, [])
    return mean(scores), spread(scores)


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
    return _csv(EVIDENCE_COLUMNS, lines)


def runs_csv(results: Results) -> str:
    """A line per run, whatever its status."""
    return _csv(*results.lines())


def _csv(columns: Iterable[str], lines: Iterable[Iterable[Any]]) -> str:
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
