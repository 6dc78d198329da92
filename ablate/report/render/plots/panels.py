"""Curves of many rows in panels of a few rows each, in two columns, with room for names on the right of each."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.verdicts import NOT_COMPARABLE, Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import INK, LINES
from ablate.report.render.plots.selection import MOST_CURVES, Selection, left_out

LINES_A_PANEL = 6
NAME = 27  # characters of a name that fit beside a panel


@dataclass(frozen=True)
class Layout:
    """Sizes in inches: of the margin on the left, of a panel with the room for names, of its axes; and the characters
    of the title above one column."""

    margin: float = 0.75
    panel: tuple[float, float] = (5.6, 2.55)
    axes: tuple[float, float] = (3.1, 1.8)
    title: int = 66


@dataclass(frozen=True)
class Line:
    """A row's curves, its name as the plot has it, and its colour."""

    row: str
    label: str
    curves: Curves
    colour: str


Panel = tuple[str, list[Line]]  # title, and lines


def panels(verdicts: Verdicts, known: Mapping[str, Curves], selection: Selection) -> tuple[list[Panel], str]:
    """The panels, and a sentence on the rows that are left out.

    A panel has the baseline, if it has curves, and rows of one section, the best first; rows that cannot be compared
    are in none.
    """
    base = verdicts.baseline.label
    first = [Line(base, drawing.label(base, NAME), known[base], INK)] if base in known else []
    rows = [row for row in verdicts.ordered() if row.label in known and row.verdict != NOT_COMPARABLE]
    rows = [row for row in rows if row.label != base]
    chosen = selection.most_important(rows, MOST_CURVES)
    names = {row.label: drawing.label(row.label, NAME) for row in chosen}
    found = []
    for section in verdicts.sections:
        title = drawing.label(section) if len(verdicts.sections) > 1 else ""
        members = [row.label for row in chosen if row.section == section]
        found += [(part, [*first, *lines]) for part, lines in numbered(title, members, known, names)]
    return found or ([("", first)] if first else []), left_out(rows, chosen)


def numbered(title: str, rows: Sequence[str], known: Mapping[str, Curves], names: Mapping[str, str]) -> list[Panel]:
    """Rows in as few panels as hold them, about as many in each; of several panels the title says which."""
    parts = math.ceil(len(rows) / LINES_A_PANEL)
    found = []
    for part in range(parts):
        chosen = rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]
        lines = [Line(row, names[row], known[row], colour) for row, colour in zip(chosen, LINES, strict=False)]
        found.append((f"{title} ({part + 1} of {parts})".strip() if parts > 1 else title, lines))
    return found


def figure(
    sentences: Sequence[str],
    shown: Sequence[Panel],
    draw: Callable[[Axes, list[Line]], None],
    note: str = "",
    layout: Layout = Layout(),
) -> Figure:
    """The panels in two columns under a title of `sentences`, and of `note`; `draw` fills one."""
    columns = min(2, len(shown))
    title = [line for text in ("; ".join(sentences), note) for line in textwrap.wrap(text, layout.title * columns)]
    head = 0.45 + 0.16 * len(title)
    panel_width, panel_height = layout.panel
    width, height = layout.margin + panel_width * columns, head + panel_height * math.ceil(len(shown) / 2)
    made = Figure(figsize=(width, height))
    for number, (name, members) in enumerate(shown):
        left, top = layout.margin + panel_width * (number % 2), head + panel_height * (number // 2)
        across, down = layout.axes
        axes = made.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))
        draw(axes, members)
        axes.set_title(name, weight="bold")
    made.suptitle("\n".join(title), x=0.012, ha="left", fontsize=9.5, y=1 - 0.08 / height, va="top")
    return made


def draw_band(axes: Axes, line: Line, first: float = -math.inf) -> np.ndarray:
    """Mean over the seeds that are done, and a band from the lowest to the highest; (4, n) as of `Curves.after`."""
    known = line.curves.after(first)
    xs, low, middle, high = known
    if len(xs):
        is_base = line.colour == INK
        axes.fill_between(xs, low, high, color=line.colour, alpha=0.15, linewidth=0)
        axes.plot(xs, middle, color=line.colour, linewidth=1.4, zorder=3 if is_base else 2)
    return known


def draw_diverged(axes: Axes, line: Line, wanted: Callable[[float, float], bool]) -> list[tuple[float, float]]:
    """Each diverged run dashed, to a cross, over its `wanted` points; returns where the crosses are."""
    crosses = []
    for points in line.curves.diverged.values():
        known = [(step, value) for step, value in points.items() if wanted(step, value)]
        if known:
            axes.plot(*zip(*known, strict=True), color=line.colour, linewidth=1.0, linestyle="--")
            axes.plot(*known[-1], color=line.colour, marker="x", markersize=7)
            crosses.append(known[-1])
    return crosses
