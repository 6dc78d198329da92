"""Each row's difference to its control in a primary score, with its interval: one picture for each such score."""

from __future__ import annotations

import math

import numpy as np

from ablate.report.analysis.score_verdicts import ScoreTable
from ablate.report.analysis.verdicts import NOT_COMPARABLE, Row, Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import Plot
from ablate.report.render.plots.forest import Entry, Measure, compared_with, forest_of
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.render.score_findings import Counted
from ablate.report.render.score_text import forest_files, number_of, places_of
from ablate.report.text import one_line

NO_SEEDS = np.zeros(0)
MOST = 6  # primary scores that have a picture each


def score_forests(verdicts: Verdicts, selection: Selection | None = None) -> list[Plot]:
    """The pictures of the first primary scores, in their order."""
    chosen = selection or Selection.of(verdicts)
    files = forest_files(verdicts.scores.primary)
    tables = verdicts.scores.primary[:MOST]
    return [_plot(verdicts, table, files[table.metric.name], chosen) for table in tables]


def _plot(verdicts: Verdicts, table: ScoreTable, file: str, selection: Selection) -> Plot:
    metric, than = table.metric, compared_with(verdicts)
    caption = one_line(f"Difference of each row's {metric.name} to {than}, with its interval")
    found = {label: one for label, one in table.verdicts.items() if math.isfinite(one.comparison.delta)}
    place = {section: number for number, section in enumerate(verdicts.sections)}
    known = [row for row in verdicts.rows if row.label in found and found[row.label].verdict != NOT_COMPARABLE]
    known.sort(key=lambda row: (place[row.section], metric.sign * found[row.label].comparison.delta))
    shown = selection.most_important(known)
    if not shown:
        return Plot(file, caption, None)
    note, entries = left_out(known, shown), [_entry(table, row) for row in shown]
    unit = f", {metric.unit}" if metric.unit else ""
    runs = int(np.isfinite(table.values.get(verdicts.baseline.label, NO_SEEDS)).sum())
    noise = table.noise if table.noise > 0 else 0.0
    axis = drawing.label(f"{metric.name} minus {than}{unit}", 100)

    def text_of(difference: float) -> str:
        return number_of(table, difference, signed=True)

    measure = Measure(axis, noise, runs, text_of, 10.0 ** -places_of(table), metric.higher_is_better)
    title = f"{drawing.label(metric.name, 60)}: {Counted.of(verdicts, table).words}"
    return Plot(file, caption, forest_of(entries, measure, title, verdicts, note), note)


def _entry(table: ScoreTable, row: Row) -> Entry:
    found, control = table.verdicts[row.label], table.values.get(row.control)
    seeds = NO_SEEDS if control is None else table.values[row.label] - control
    return Entry(row, found.comparison, found.verdict, found.verdict, found.why, seeds)
