"""Each row's difference to its control with its interval, over a band of the baseline's spread over seeds."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablate.report.analysis.verdicts import (
    ABOVE_CHANCE,
    BETTER,
    HAS_DIVERGED,
    NO_VERDICT,
    SAME,
    UNDECIDED,
    WORSE,
    Row,
    Verdicts,
)
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import GREY, INK, LOOKS, PALE, Plot
from ablate.report.render.plots.fonts import drawable
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.render.summary import headline
from ablate.report.text import counted, fixed

ACROSS = 4.5  # inches of the axes


def forest(verdicts: Verdicts, selection: Selection | None = None) -> Plot:
    """Difference to the control with interval, by section; the band is the baseline's spread over seeds."""
    known = [row for row in verdicts.ordered() if math.isfinite(row.comparison.delta)]
    shown = (selection or Selection.of(verdicts)).most_important(known)
    note = left_out(known, shown)
    than = "that of the row it is compared with" if verdicts.against else "the baseline's"
    name, caption = "forest.png", f"Difference of each row's final loss to {than}, with its interval"
    if not shown:
        return Plot(name, caption, None)
    lines = _with_headings(shown, verdicts)
    labels = {row.label: _label(row, verdicts) for row in shown}
    left, foot = max(2.4, 0.35 + 0.078 * max(map(len, labels.values()))), 0.75 if note else 0.5
    width, height = left + ACROSS + 3.4, 1.0 + foot + 0.25 * len(lines)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, foot / height, ACROSS / width, 1 - (0.85 + foot) / height))
    edges = [edge for row in shown for edge in (row.comparison.delta, row.comparison.low, row.comparison.high)]
    noise = verdicts.noise if verdicts.noise > 0 else 0.0
    low, high = drawing.robust_limits(edges, max(2.5 * noise, 1e-4))
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvspan(-noise, noise, color=PALE, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.9)
    places = 3 if noise > 0.003 else 4
    sides, outside = axes.get_yaxis_transform(), 0.15 - left
    rows = {row.label: row for row in verdicts}
    for y, line in enumerate(lines):
        if isinstance(line, str):
            axes.text(outside / ACROSS, y, line, transform=sides, weight="bold", va="center", clip_on=False)
            continue
        _forest_line(axes, y, line, rows[line.control])
        axes.text(-0.03, y, labels[line.label], transform=sides, va="center", ha="right", clip_on=False)
        axes.text(1.03, y, _forest_text(line, places), transform=sides, va="center", fontsize=8, clip_on=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"final loss minus {than}, nats per token     ← better · worse →")
    drawing.write_note(axes, note)
    title = textwrap.fill(drawable(headline(verdicts)), int(width * 11))
    figure.suptitle(title, x=0.012, y=1 - 0.12 / height, ha="left", va="top", fontsize=11)
    handles: list[Artist] = [
        _handle(verdict)
        for verdict in (BETTER, SAME, UNDECIDED, WORSE, NO_VERDICT, HAS_DIVERGED, ABOVE_CHANCE)
        if any(row.verdict == verdict for row in shown)
    ]
    handles.append(Line2D([], [], color=GREY, marker="|", linestyle="", markersize=6, label="one seed"))
    if any(edge < axes.get_xlim()[0] or edge > axes.get_xlim()[1] for edge in edges):
        handles.append(
            Line2D([], [], color=GREY, marker=">", linestyle="-", markersize=5, label="continues beyond the scale")
        )
    if noise:
        handles.append(
            Patch(color=PALE, label=f"noise floor: ± sd of the baseline, {counted(verdicts.baseline.learned, 'seed')}")
        )
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(outside / ACROSS - 0.015, 1.0),
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.4,
        borderaxespad=0.2,
    )
    return Plot(name, caption, figure, note)


def _label(row: Row, verdicts: Verdicts) -> str:
    against = f", against {row.control}" if row.control != verdicts.baseline.label else ""
    return drawing.label(row.label + against, 60)


def _forest_line(axes: Axes, y: int, row: Row, control: Row) -> None:
    colour, marker = LOOKS[row.verdict]
    low, high = axes.get_xlim()
    delta = row.comparison.delta
    seeds = row.final - control.final
    axes.plot(seeds, np.full(len(seeds), y + 0.24), linestyle="", marker="|", markersize=4, color=colour, alpha=0.6)
    if math.isfinite(row.comparison.low):
        axes.plot([max(row.comparison.low, low), min(row.comparison.high, high)], [y, y], color=colour, linewidth=1.6)
        for is_beyond, edge, arrow in ((row.comparison.low < low, low, "<"), (row.comparison.high > high, high, ">")):
            if is_beyond and low <= delta <= high:
                axes.plot(edge, y, marker=arrow, color=colour, markersize=5, clip_on=False)
    if low <= delta <= high:
        axes.plot(delta, y, marker=marker, color=colour, markersize=6)
    else:
        edge, arrow = (high, ">") if delta > high else (low, "<")
        axes.plot(edge, y, marker=arrow, color=colour, markersize=7, clip_on=False)


def _forest_text(row: Row, places: int) -> str:
    comparison = row.comparison
    text = fixed(comparison.delta, places, signed=True)
    if math.isfinite(comparison.low):
        text += f"  [{fixed(comparison.low, places, signed=True)}, {fixed(comparison.high, places, signed=True)}]"
    text += f"  n={comparison.seeds}  {row.words}"
    remarks = [row.why] * bool(row.why) + ["not counted"] * (not row.is_change)
    return ", ".join([text, *remarks])


def _handle(verdict: str) -> Line2D:
    colour, marker = LOOKS[verdict]
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        linestyle="-" if verdict in (BETTER, WORSE, UNDECIDED, SAME) else "",
        label=verdict,
    )


def _with_headings(rows: list[Row], verdicts: Verdicts) -> list[Row | str]:
    if len(verdicts.sections) == 1:
        return list(rows)
    lines: list[Row | str] = []
    for before, row in zip([None, *rows], rows, strict=False):
        if before is None or before.section != row.section:
            lines.append(drawing.label(row.section))
        lines.append(row)
    return lines
