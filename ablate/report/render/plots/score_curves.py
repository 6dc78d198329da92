"""A score as a function of something else, such as the position in the sequence, or of the step: a picture for each."""

from __future__ import annotations

from matplotlib.axes import Axes

from ablate.report.analysis.results import Results
from ablate.report.analysis.score_curves import ScoreCurves, score_curves, score_history, with_history
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import GREY, Plot
from ablate.report.render.plots.panels import NAME, Line, draw_band, figure, panels
from ablate.report.render.plots.selection import Selection
from ablate.report.text import one_line

MOST_REASONS = 3  # that a title gives of why curves end early


def all_score_curves(results: Results, verdicts: Verdicts, selection: Selection) -> list[Plot]:
    """The picture of every score whose runs have curves, in the order of the scores."""
    curves = (score_curves(results, name) for name in verdicts.metrics)
    histories = (score_history(results, name) for name in with_history(results, verdicts.metrics))
    return [
        *(_plot(f"curve_{found.name}.png", found, verdicts, selection) for found in curves if found),
        *(_plot(f"history_{found.name}.png", found, verdicts, selection) for found in histories if found),
    ]


def _plot(file: str, found: ScoreCurves, verdicts: Verdicts, selection: Selection) -> Plot:
    shown, note = panels(verdicts, found.rows, selection)
    if not shown:
        return Plot(file, "", None)
    rows = {line.row for _, lines in shown for line in lines}
    words = found.name.replace("_", " ")
    ends = {row: end for row, end in found.early_ends().items() if row in rows}
    sentences = [
        f"{drawing.label(words, 60)} by {drawing.label(found.x, 60) or 'x'}",
        "mean over seeds, band from the lowest to the highest",
    ]
    if found.chance is not None:
        sentences.append("dotted: chance")
    sentences += _endings(ends, found.ended)
    caption = f"{words} by {found.x or 'x'}, of each row and of the baseline (black)"

    def draw(axes: Axes, lines: list[Line]) -> None:
        _draw(axes, lines, found, ends)

    return Plot(file, one_line(caption), figure(sentences, shown, draw, note), note)


def _endings(ends: dict[str, float], reasons: dict[str, str]) -> list[str]:
    """Which rows' curves end before the others', where, and why as far as known."""
    if not ends:
        return []
    named = [
        f"{drawing.label(row, NAME)} at {end:g}{f' ({drawing.label(reasons[row], 100)})' if row in reasons else ''}"
        for row, end in list(ends.items())[:MOST_REASONS]
    ]
    more = f" and {len(ends) - MOST_REASONS} more" if len(ends) > MOST_REASONS else ""
    return [f"a square: where the curve of a row ends, {', '.join(named)}{more}"]


def _draw(axes: Axes, lines: list[Line], found: ScoreCurves, ends: dict[str, float]) -> None:
    last_points = []
    for line in lines:
        xs, _, middle, _ = draw_band(axes, line)
        if not len(xs):
            continue
        last_points.append((float(xs[-1]), float(middle[-1]), line.label, line.colour))
        if len(xs) == 1:  # which a line alone would not show
            axes.plot(xs, middle, color=line.colour, marker="o", markersize=4, zorder=4)
        if line.row in ends:
            axes.plot(xs[-1], middle[-1], color=line.colour, marker="s", markersize=5, zorder=4)
    if found.chance is not None:
        axes.axhline(found.chance, color=GREY, linewidth=1.0, linestyle=":")
    axes.set_xlabel(drawing.label(found.x, 60))
    axes.set_ylabel(drawing.label(found.unit, 30))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    drawing.label_lines(axes, last_points)
