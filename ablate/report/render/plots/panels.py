"""Curves of all rows in panels of a few rows each, the baseline in every one."""

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
TITLE = 66  # characters of the title above a column of panels
PANEL = (5.6, 2.55)  # inches, with the room for names and axes
AXES = (3.1, 1.8)  # inches


@dataclass(frozen=True)
class Line:
    """A row's curves, its label and its colour."""

    row: str
    curves: Curves
    colour: str

    @property
    def label(self) -> str:
        """Its name as the plot has it."""
        return drawing.label(self.row, NAME)


def panels(
    verdicts: Verdicts, known: Mapping[str, Curves], selection: Selection
) -> tuple[list[tuple[str, list[Line]]], str]:
    """Title and lines of each panel, and a sentence on the rows that are left out.

    A panel has the baseline, if it has curves, and rows of one section, the best first; rows that cannot be compared
    are in none.
    """
    base = verdicts.baseline.label
    first = [Line(base, known[base], INK)] if base in known else []
    rows = [row for row in verdicts.ordered() if row.label in known and row.verdict != NOT_COMPARABLE]
    rows = [row for row in rows if row.label != base]
    chosen = selection.most_important(rows, MOST_CURVES)
    found = []
    for section in verdicts.sections:
        members = [row.label for row in chosen if row.section == section]
        parts = math.ceil(len(members) / LINES_A_PANEL)
        for part in range(parts):
            labels = members[part * len(members) // parts : (part + 1) * len(members) // parts]
            name = drawing.label(section) if len(verdicts.sections) > 1 else ""
            title = f"{name} ({part + 1} of {parts})".strip() if parts > 1 else name
            lines = [Line(label, known[label], colour) for label, colour in zip(labels, LINES, strict=False)]
            found.append((title, [*first, *lines]))
    return found or ([("", first)] if first else []), left_out(rows, chosen)


def figure(
    sentences: Sequence[str],
    shown: Sequence[tuple[str, list[Line]]],
    draw: Callable[[Axes, list[Line]], None],
    note: str = "",
) -> Figure:
    """The panels in two columns under a title of `sentences`, and of `note`; `draw` fills one."""
    columns = min(2, len(shown))
    lines = [*textwrap.wrap("; ".join(sentences), TITLE * columns), *textwrap.wrap(note, TITLE * columns)]
    head = 0.45 + 0.16 * len(lines)
    width, height = 0.75 + PANEL[0] * columns, head + PANEL[1] * math.ceil(len(shown) / 2)
    made = Figure(figsize=(width, height))
    for number, (title, members) in enumerate(shown):
        left, top = 0.75 + PANEL[0] * (number % 2), head + PANEL[1] * (number // 2)
        box = (left / width, 1 - (top + AXES[1]) / height, AXES[0] / width, AXES[1] / height)
        axes = made.add_axes(box)
        draw(axes, members)
        axes.set_title(title, weight="bold")
    made.suptitle("\n".join(lines), x=0.012, ha="left", fontsize=9.5, y=1 - 0.08 / height, va="top")
    return made


def draw_band(axes: Axes, line: Line) -> np.ndarray:
    """Mean over the seeds that are done, and a band from the lowest to the highest; (4, n) as of `Curves.after`."""
    known = line.curves.after(-math.inf)
    xs, low, middle, high = known
    if len(xs):
        is_base = line.colour == INK
        axes.fill_between(xs, low, high, color=line.colour, alpha=0.15, linewidth=0)
        axes.plot(xs, middle, color=line.colour, linewidth=1.4, zorder=3 if is_base else 2)
    return known
