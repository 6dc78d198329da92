"""Each row's difference to its control in a primary score, with its interval: one picture for each such score."""

from __future__ import annotations

import math

import numpy as np

from ablate.report.analysis.score_verdicts import ScoreTable
from ablate.report.analysis.verdicts import NOT_COMPARABLE, Verdicts
from ablate.report.render.plots.drawing import Plot
from ablate.report.render.plots.forest import Entry, Measure, compared_with, forest_of
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.render.score_findings import Counted
from ablate.report.render.score_text import forest_file, places_of
from ablate.report.text import one_line

MOST = 6  # primary scores that have a picture each


def score_forests(verdicts: Verdicts, selection: Selection | None = None) -> list[Plot]:
    """The pictures of the first primary scores, in their order."""
    chosen = selection or Selection.of(verdicts)
    return [_plot(verdicts, table, chosen) for table in verdicts.scores.primary[:MOST]]


def _plot(verdicts: Verdicts, table: ScoreTable, selection: Selection) -> Plot:
    metric, than = table.metric, compared_with(verdicts)
    file = forest_file(table)
    caption = one_line(f"Difference of each row's {metric.name} to {than}, with its interval")
    found = {label: one for label, one in table.verdicts.items() if math.isfinite(one.comparison.delta)}
    known = [row for row in verdicts.ordered() if row.label in found and found[row.label].verdict != NOT_COMPARABLE]
    shown = selection.most_important(known)
    if not shown:
        return Plot(file, caption, None)
    nothing, note = np.zeros(0), left_out(known, shown)
    entries = [
        Entry(
            row,
            found[row.label].comparison,
            found[row.label].verdict,
            found[row.label].verdict,
            found[row.label].why,
            table.values[row.label] - table.values[row.control] if row.control in table.values else nothing,
        )
        for row in shown
    ]
    unit = f", {metric.unit}" if metric.unit else ""
    runs = int(np.isfinite(table.values.get(verdicts.baseline.label, nothing)).sum())
    places, noise = places_of(table), table.noise if table.noise > 0 else 0.0
    axis = one_line(f"{metric.name} minus {than}{unit}")
    measure = Measure(axis, noise, runs, places, 10.0**-places, metric.higher_is_better)
    title = f"{metric.name}: {Counted.of(verdicts, table).words}"
    return Plot(file, caption, forest_of(entries, measure, title, verdicts, note), note)
