"""Each row's difference to its control with its interval, over a band of the baseline's spread over seeds."""

from __future__ import annotations

import math

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
from ablate.report.render.summary import headline
from ablate.report.text import counted, fixed


def forest(verdicts: Verdicts) -> Plot:
    """Difference to the control with interval, by section; the band is the baseline's spread over seeds."""
    shown = [row for row in verdicts.ordered() if math.isfinite(row.comparison.delta)]
    than = "that of the row it is compared with" if verdicts.against else "the baseline's"
    name, caption = "forest.png", f"Difference of each row's final loss to {than}, with its interval"
    if not shown:
        return name, caption, None
    lines = _with_headings(shown, verdicts)
    figure = Figure(figsize=(10.5, 1.5 + 0.25 * len(lines)))
    axes = figure.add_axes((0.27, 0.5 / figure.get_figheight(), 0.43, 1 - 1.35 / figure.get_figheight()))
    edges = [edge for row in shown for edge in (row.comparison.delta, row.comparison.low, row.comparison.high)]
    noise = verdicts.noise if verdicts.noise > 0 else 0.0
    low, high = drawing.robust_limits(edges, max(2.5 * noise, 1e-4))
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvspan(-noise, noise, color=PALE, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.9)
    places = 3 if noise > 0.003 else 4
    sides = axes.get_yaxis_transform()
    rows = {row.label: row for row in verdicts}
    for y, line in enumerate(lines):
        if isinstance(line, str):
            axes.text(-0.61, y, line, transform=sides, weight="bold", va="center", clip_on=False)
            continue
        _forest_line(axes, y, line, rows[line.control])
        label = f"{line.label}, against {line.control}" if line.control != verdicts.baseline.label else line.label
        axes.text(-0.03, y, drawing.label(label, 44), transform=sides, va="center", ha="right", clip_on=False)
        axes.text(1.03, y, _forest_text(line, places), transform=sides, va="center", fontsize=8, clip_on=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"final loss minus {than}, nats per token     ← better · worse →")
    figure.suptitle(
        drawable(headline(verdicts)), x=0.012, y=1 - 0.12 / figure.get_figheight(), ha="left", va="top", fontsize=11
    )
    handles: list[Artist] = [
        _handle(verdict)
        for verdict in (BETTER, SAME, UNDECIDED, WORSE, NO_VERDICT, HAS_DIVERGED, ABOVE_CHANCE)
        if any(row.verdict == verdict for row in shown)
    ]
    handles.append(Line2D([], [], color=GREY, marker="|", linestyle="", markersize=6, label="one seed"))
    if noise:
        handles.append(
            Patch(color=PALE, label=f"noise floor: ± sd of the baseline, {counted(verdicts.baseline.learned, 'seed')}")
        )
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.625, 1.0),
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.4,
        borderaxespad=0.2,
    )
    return name, caption, figure


def _forest_line(axes: Axes, y: int, row: Row, control: Row) -> None:
    colour, marker = LOOKS[row.verdict]
    low, high = axes.get_xlim()
    delta = row.comparison.delta
    seeds = row.final - control.final
    axes.plot(seeds, np.full(len(seeds), y + 0.24), linestyle="", marker="|", markersize=4, color=colour, alpha=0.6)
    if math.isfinite(row.comparison.low):
        axes.plot([max(row.comparison.low, low), min(row.comparison.high, high)], [y, y], color=colour, linewidth=1.6)
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
    text += f"  n={comparison.seeds}"
    return f"{text}  {row.words}, {row.why}" if row.why else f"{text}  {row.words}"


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
