"""What plots share: colours, labels that do not overlap, axes that one wild row cannot squash, steady bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ablate.record import atomic_write
from ablate.report.verdicts import BASELINE, BETTER, HAS_DIVERGED, NO_VERDICT, NOT_COMPARABLE, UNDECIDED, WORSE

# Okabe and Ito's colours, which the colour-blind can tell apart; shapes say the same once more.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
LOOKS = {
    BETTER: (BLUE, "v"),
    WORSE: (VERMILLION, "^"),
    UNDECIDED: (GREY, "o"),
    NO_VERDICT: (GREY, "s"),
    HAS_DIVERGED: (INK, "x"),
    NOT_COMPARABLE: (INK, "+"),
    BASELINE: (INK, "*"),
}
DPI = 110

Plot = tuple[str, str, Figure | None]  # file name, caption; no figure where there is nothing to draw
_STYLE = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#EEEEEE",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,  # labels come from outside
    "axes.formatter.useoffset": False,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of every plot, whatever the user's own settings of matplotlib."""
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context(defaults | _STYLE):
        yield


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes are the same each time."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})
    atomic_write(path, buffer.getvalue())


def robust_limits(values: Sequence[float], least: float) -> tuple[float, float]:
    """Limits of an axis around zero that hold the bulk of `values`; what lies far outside is for the edge.

    A value is far outside where it is more than 2.5 times as far from zero as the fourth fifth of all values.
    """
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return -least, least
    reach = max(least, 2.5 * float(np.quantile(np.abs(known), 0.8)))
    inside = known[np.abs(known) <= reach]
    return min(-least, float(inside.min(initial=0))), max(least, float(inside.max(initial=0)))


def spread_out(positions: Sequence[float], gap: float) -> np.ndarray:
    """Positions at least `gap` apart, in the same order and as near to the given ones as that allows."""
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []  # [centre, size]
    for wanted in np.asarray(positions, dtype=float)[order]:
        groups.append([wanted, 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (above, many), (below, more) = groups.pop(), groups.pop()
            groups.append([(above * many + below * more) / (many + more), many + more])
    placed = [centre + gap * (index - (size - 1) / 2) for centre, size in groups for index in range(int(size))]
    result = np.empty(len(placed))
    result[order] = placed
    return result


def label_lines(axes: Axes, ends: Sequence[tuple[float, float, str, Any]], points: float = 11.0) -> None:
    """Name lines at the right of the axes: `ends` holds (x, y, label, colour) of where each line ends.

    Labels are moved apart and tied to their lines; what ends off the scale is named at the edge, with an arrow.
    """
    low, high = axes.get_ylim()
    height = axes.get_position().height * axes.figure.get_figheight() * 72
    gap = points * (high - low) / height
    targets = [min(max(y, low), high) for _, y, _, _ in ends]
    for (x, value, label, colour), target, y in zip(ends, targets, spread_out(targets, gap), strict=True):
        beyond = " ↑" if value > high else " ↓" if value < low else ""
        axes.annotate(
            label + beyond,
            xy=(x, target),
            xytext=(1.045, (y - low) / (high - low)),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0},
        )


def label_points(axes: Axes, points: Sequence[tuple[float, float, str, Any]], fontsize: float = 8.0) -> list[str]:
    """Name points: `points` holds (x, y, label, colour), the most important first; returns the labels without room."""
    figure = axes.figure
    FigureCanvasAgg(figure)
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer)
    pixels = axes.transData.transform([(x, y) for x, y, _, _ in points]) if points else np.empty((0, 2))
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in pixels]
    left_out = []
    for (x, y), (_, _, label, colour) in zip(pixels, points, strict=True):
        text = axes.text(0, 0, label, fontsize=fontsize, color=colour)
        box = text.get_window_extent(renderer)
        text.remove()
        for dx, dy, horizontal, vertical in _PLACES:
            left = (
                x + dx if horizontal == "left" else x - box.width / 2 if horizontal == "center" else x + dx - box.width
            )
            bottom = y + dy - (box.height / 2 if vertical == "center" else 0 if vertical == "bottom" else box.height)
            room = (left, bottom, left + box.width, bottom + box.height)
            inside = left >= frame.x0 and room[2] <= frame.x1 and bottom >= frame.y0 and room[3] <= frame.y1
            if inside and not any(_overlap(room, other) for other in taken):
                taken.append(room)
                tie = (
                    {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
                    if abs(dx) + abs(dy) > 16
                    else None
                )
                axes.annotate(
                    label,
                    xy=(x, y),
                    xycoords="figure pixels",
                    xytext=(left, bottom),
                    textcoords="figure pixels",
                    fontsize=fontsize,
                    color=colour,
                    arrowprops=tie,
                    path_effects=[withStroke(linewidth=2, foreground="white", alpha=0.8)],
                )
                break
        else:
            left_out.append(label)
    return left_out


_PLACES = [
    *((7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top")),
    *((6, 6, "left", "bottom"), (-6, 6, "right", "bottom"), (6, -6, "left", "top"), (-6, -6, "right", "top")),
    *((10, dy, "left", "center") for dy in (14, -14, 24, -24, 36, -36)),
    *((-10, dy, "right", "center") for dy in (14, -14, 24, -24, 36, -36)),
]


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
