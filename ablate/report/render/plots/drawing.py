"""What plots share: colours, labels that do not overlap, axes that tolerate an outlier, reproducible bytes."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ablate.report.analysis.score_verdicts import AT_CHANCE
from ablate.report.analysis.verdicts import (
    ABOVE_CHANCE,
    BASELINE,
    BETTER,
    HAS_DIVERGED,
    NO_VERDICT,
    NOT_COMPARABLE,
    SAME,
    UNDECIDED,
    WORSE,
)
from ablate.report.render.plots.fonts import covering, drawable
from ablate.report.text import fixed, one_line, shortened
from ablate.run.files import atomic_write

# Okabe and Ito's colours, safe for colour-blind readers; marker shapes repeat the distinction.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#E4E4E4"
LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
LOOKS = {
    BETTER: (BLUE, "v"),
    WORSE: (VERMILLION, "^"),
    SAME: (GREEN, "D"),
    UNDECIDED: (GREY, "o"),
    AT_CHANCE: (GREY, "d"),
    NO_VERDICT: (GREY, "s"),
    HAS_DIVERGED: (INK, "x"),
    ABOVE_CHANCE: (INK, "1"),
    NOT_COMPARABLE: (INK, "+"),
    BASELINE: (INK, "*"),
}
DPI = 110
BESIDE = 1.045  # where names at the right of the axes begin, in their widths
NAME = 34  # characters of a row's name beside a line or a point

Box = tuple[float, float, float, float]  # left, bottom, right, top


class Plot(NamedTuple):
    """A picture of the report: no figure where there is nothing to draw; `note` says which rows it leaves out."""

    file: str
    caption: str
    figure: Figure | None
    note: str = ""


_STYLE = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
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
def style(texts: Iterable[str] = ()) -> Iterator[None]:
    """The look of every plot, whatever the user's own settings of matplotlib; with fonts for these `texts`."""
    defaults: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context(defaults | _STYLE | {"font.family": covering(texts)}):
        yield


def label(text: object, longest: int = 40) -> str:
    """The text as a plot has it: one line, cut to `longest`, of letters that can be drawn."""
    return shortened(drawable(one_line(text)), longest)


def names(texts: Iterable[str], longest: int = NAME) -> dict[str, str]:
    """Each text as a label of at most `longest` letters; where two would be the same, cut in the middle instead."""
    texts = list(dict.fromkeys(texts))
    found = {text: label(text, longest) for text in texts}
    same = {name for name, times in Counter(found.values()).items() if times > 1}
    start, end = math.ceil((longest - 1) / 2), (longest - 1) // 2
    for text, name in found.items():
        whole = drawable(one_line(text))
        if name in same and len(whole) > longest:
            found[text] = f"{whole[:start]}…{whole[-end:]}"
    return found


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, and beside it the same as a PDF for papers; the bytes of both are the same each time."""
    box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()).padded(0.12)
    for to, left_out in ((path, "Software"), (path.with_suffix(".pdf"), "CreationDate")):
        buffer, kind = io.BytesIO(), to.suffix[1:]
        figure.savefig(buffer, format=kind, bbox_inches=box, metadata={left_out: None})
        atomic_write(to, buffer.getvalue())


def robust_limits(values: Sequence[float], least: float) -> tuple[float, float]:
    """Limits of an axis around zero that hold the bulk of `values`; outliers are drawn at the edge.

    An outlier is more than 2.5 times as far from zero as the 80 % quantile of all distances, and more than a third
    farther than all other values: to leave it out must make room.
    """
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return -least, least
    reach = max(least, 2.5 * float(np.quantile(np.abs(known), 0.8)))
    bulk = float(np.abs(known[np.abs(known) <= reach]).max(initial=0))
    inside = known[np.abs(known) <= max(reach, bulk * 4 / 3)]
    return min(-least, float(inside.min(initial=0))), max(least, float(inside.max(initial=0)))


def spread_out(positions: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf) -> np.ndarray:
    """Positions at least `gap` apart, in the same order and as close to the given ones as possible.

    They lie between `low` and `high` where there is room for all.
    """
    order = np.argsort(positions, kind="stable")
    groups: list[list[float]] = []  # [centre, size]
    for position in np.asarray(positions, dtype=float)[order]:
        groups.append([position, 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            (above, many), (below, more) = groups.pop(), groups.pop()
            groups.append([(above * many + below * more) / (many + more), many + more])
    placed = np.array(
        [centre + gap * (index - (size - 1) / 2) for centre, size in groups for index in range(int(size))]
    )
    steps = gap * np.arange(len(placed))
    if len(placed) and steps[-1] <= high - low:
        placed = np.clip(placed, low + steps, high - steps[::-1])
    result = np.empty(len(placed))
    result[order] = placed
    return result


def label_lines(
    axes: Axes, ends: Sequence[tuple[float, float, str, Any]], points: float = 11.0, signed: bool = False
) -> None:
    """Name lines at the right of the axes: `ends` holds (x, y, label, colour) of where each line ends.

    Labels are moved apart and connected to their lines; a line that ends off the scale is labelled at the edge, with an
    arrow and its value, `signed` where it is a difference.
    """
    low, high = axes.get_ylim()
    gap = points / (axes.get_position().height * _figure(axes).get_figheight() * 72)
    inside = axes.transData + axes.transAxes.inverted()
    starts = [inside.transform((x, min(max(y, low), high))) for x, y, _, _ in ends]
    places = spread_out([start[1] for start in starts], gap, 0, 1)
    for (_, value, name, colour), place in zip(ends, places, strict=True):
        arrow = "↑" if value > high else "↓" if value < low else ""
        beyond = f" {arrow} {fixed(value, 2, signed=signed)}" if arrow else ""
        text = shortened(name, NAME - len(beyond)) + beyond
        look: dict[str, Any] = {"color": colour, "fontsize": 8, "va": "center", "clip_on": False}
        axes.text(BESIDE, place, text, transform=axes.transAxes, **look)
    if ends:  # below the points, and below the names beside them
        ties: list[Any] = [[start, (BESIDE - 0.005, place)] for start, place in zip(starts, places, strict=True)]
        colours = [colour for _, _, _, colour in ends]
        frame: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False, "zorder": 1.5}
        axes.add_collection(LineCollection(ties, colors=colours, linewidths=0.6, **frame), autolim=False)


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float, str, Any]],
    fontsize: float = 8.0,
    bars: Sequence[float] = (),
    only_near: bool = False,
) -> list[str]:
    """Label points: `points` holds (x, y, label, colour), the most important first; returns the labels without room.

    The limits of the axes must be final. A label takes the first place around its point that is free of points, of
    labels, and of the vertical error bars, whose half lengths are `bars`; with `only_near` one that touches its point.
    A place that is nearly as close to another point is taken only where a line leads to its own.
    """
    figure = _figure(axes)
    renderer = FigureCanvasAgg(figure).get_renderer()
    frame = axes.get_window_extent(renderer)
    pixels = axes.transData.transform([(x, y) for x, y, _, _ in points]) if points else np.empty((0, 2))
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in pixels]
    for (x, y, _, _), half in zip(points, bars, strict=False):
        (left, bottom), (_, top) = axes.transData.transform([(x, y - half), (x, y + half)])
        taken.append((left - 2, bottom, left + 2, top))
    left_out = []
    places = _PLACES[:_NEAR] if only_near else _PLACES
    for (x, y), point in zip(pixels, points, strict=True):
        room = _room(axes, renderer, frame, (x, y), point[2], fontsize, taken, places, pixels)
        if room is None:
            left_out.append(point[2])
            continue
        taken.append((room[0] - 3, room[1], room[2] + 3, room[3]))
        is_far = not (room[0] < x + 12 and room[2] > x - 12 and room[1] < y + 12 and room[3] > y - 12)
        axes.annotate(
            point[2],
            xy=point[:2],
            xytext=((room[0] - x) * 72 / figure.dpi, (room[1] - y) * 72 / figure.dpi),
            textcoords="offset points",
            fontsize=fontsize,
            color=point[3],
            arrowprops=_TIE if is_far else None,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.2},
        )
    return left_out


def _figure(axes: Axes) -> Figure:
    """The whole figure, whatever subfigure the axes belong to."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def write_note(axes: Axes, note: str) -> None:
    """Write below the axes which rows are left out, where some are."""
    if note:
        axes.annotate(
            note,
            xy=(0, 0),
            xycoords="axes fraction",
            xytext=(0, -38),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            ha="left",
            va="top",
            annotation_clip=False,
        )


def _room(
    axes: Axes,
    renderer: Any,
    frame: Any,
    at: tuple[float, float],
    label: str,
    fontsize: float,
    taken: list[Box],
    places: Sequence[tuple[float, float, float, float]],
    points: np.ndarray,
) -> Box | None:
    """The free box nearest to a point, in pixels, that holds its label; None where there is none."""
    text = axes.text(0, 0, label, fontsize=fontsize)
    size = text.get_window_extent(renderer)
    text.remove()
    for number, (dx, dy, across, up) in enumerate(places):
        near = np.hypot(*(points - at - (dx, dy)).T) < CLEARLY * math.hypot(dx, dy)
        if number < _NEAR and near.sum() > 1:
            continue
        left, bottom = at[0] + dx - across * size.width, at[1] + dy - up * size.height
        box = (left, bottom, left + size.width, bottom + size.height)
        inside = left >= frame.x0 and box[2] <= frame.x1 and bottom >= frame.y0 and box[3] <= frame.y1
        if inside and not any(_overlap(box, other) for other in taken):
            return box
    return None


_TIE = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
CLEARLY = 1.1  # other points are this many times as far from a label as its own
# (pixels right, pixels up, part of the label's width left of there, part of its height below it)
_NEAR = 8  # of the places touch the point
_PLACES = [
    *((8, 0, 0, 0.5), (-8, 0, 1, 0.5), (0, 8, 0.5, 0), (0, -8, 0.5, 1)),
    *((7, 6, 0, 0), (-7, 6, 1, 0), (7, -6, 0, 1), (-7, -6, 1, 1)),
    *((10, dy, 0, 0.5) for dy in (14, -14, 24, -24, 36, -36)),
    *((-10, dy, 1, 0.5) for dy in (14, -14, 24, -24, 36, -36)),
]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
