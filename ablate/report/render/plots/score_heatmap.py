"""Every score of every row: how far from its control, in units of the difference that the sweep detects."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ablate.report.analysis.score_verdicts import AT_CHANCE, ScoreTable
from ablate.report.analysis.verdicts import BETTER, NOT_COMPARABLE, WORSE, Row, Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import GREY, INK, Plot
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.render.score_text import difference_of, is_negligible
from ablate.report.text import counted

FILE = "scores.png"
FOUND = (BETTER, WORSE)
HATCH = "#D0D0D0"
MOST_SCORES = 40  # side by side on a page
WIDE, TALL, BAR = 0.56, 0.25, 1.5  # inches of a column, of a row, and of the bar of colours
NAME, ROW = 30, 44  # characters of a score's name, and of a row's
LIMIT = 1.5  # of the colours, in detectable differences


def score_heatmap(verdicts: Verdicts, selection: Selection | None = None) -> Plot:
    """Rows by scores, the primary ones first; cells with a verdict have a frame, those at chance are hatched."""
    caption = "Difference of every score to that of the row's control, coloured by the difference that is detectable"
    tables = [*verdicts.scores.tables.values()]
    known = [row for row in verdicts.ordered() if row.verdict != NOT_COMPARABLE and _any_difference(row, tables)]
    if not known:
        return Plot(FILE, caption, None)
    shown = tables[:MOST_SCORES]
    rows = (selection or Selection.of(verdicts)).most_important(known)
    note = " ".join(filter(None, (left_out(known, rows), _scores_left_out(tables))))
    axes, figure = _axes(rows, shown, verdicts, _title(verdicts, shown, note))
    units = np.array([[_units(table, row) for table in shown] for row in rows])
    image = axes.imshow(np.ma.masked_invalid(units), cmap="RdBu_r", vmin=-LIMIT, vmax=LIMIT, aspect="auto")
    for y, row in enumerate(rows):
        for x, table in enumerate(shown):
            _cell(axes, x, y, table, row, units[y, x])
    _lines(axes, rows, shown)
    _bar(figure, axes, image)
    _legend(
        figure,
        axes,
        {table.verdicts[row.label].verdict for row in rows for table in shown if row.label in table.verdicts},
    )
    return Plot(FILE, caption, figure, note)


def _any_difference(row: Row, tables: list[ScoreTable]) -> bool:
    return any(math.isfinite(_delta(table, row)) for table in tables)


def _delta(table: ScoreTable, row: Row) -> float:
    found = table.verdicts.get(row.label)
    return found.comparison.delta if found else math.nan


def _units(table: ScoreTable, row: Row) -> float:
    """The difference over the detectable one, positive where it is worse; NaN where there is no test or no verdict."""
    found = table.verdicts.get(row.label)
    if found is None or found.verdict == AT_CHANCE or not math.isfinite(found.comparison.detectable):
        return math.nan
    delta, detectable = table.metric.sign * found.comparison.delta, found.comparison.detectable
    if is_negligible(table, delta):
        return 0.0
    return math.copysign(LIMIT, delta) if is_negligible(table, detectable) else delta / detectable


def _scores_left_out(tables: list[ScoreTable]) -> str:
    rest = len(tables) - MOST_SCORES
    return f"{counted(rest, 'score')} more: see downstream.csv." if rest > 0 else ""


def _title(verdicts: Verdicts, shown: list[ScoreTable], note: str) -> str:
    than = "the row it is compared with" if verdicts.against else drawing.label(verdicts.baseline.label, 30)
    lines = [
        f"Score minus that of {than}, each in its own unit",
        "colour: in units of the difference that is found with 80 % power; blue is better",
    ]
    if any(table.is_primary for table in shown) and not all(table.is_primary for table in shown):
        lines.append("left of the line: primary scores; right: exploratory ones, a family of their own")
    elif not shown[0].is_primary:
        lines.append("exploratory scores, a family of their own")
    return "\n".join([*lines, *(textwrap.wrap(note, 90) if note else [])])


def _axes(rows: list[Row], shown: list[ScoreTable], verdicts: Verdicts, title: str) -> tuple[Axes, Figure]:
    labels = [_label(row, verdicts) for row in rows]
    names = [*drawing.names((table.metric.name for table in shown), NAME).values()]
    left, wide, tall = 0.35 + 0.075 * max(map(len, labels)), WIDE * len(shown), TALL * len(rows)
    above = 0.2 + 0.072 * max(map(len, names))  # the names of the scores
    head = 0.2 + 0.17 * (title.count("\n") + 1) + above
    width, height = max(left + wide + 1.0, 6.2), head + max(tall, BAR) + 0.6
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, 1 - (head + tall) / height, wide / width, tall / height))
    axes.grid(False)
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.suptitle(title, x=0.012, y=1 - 0.08 / height, ha="left", va="top", fontsize=10)
    return axes, figure


def _label(row: Row, verdicts: Verdicts) -> str:
    against = f", against {row.control}" if row.control != verdicts.baseline.label else ""
    return drawing.label(row.label + against, ROW)


def _cell(axes: Axes, x: int, y: int, table: ScoreTable, row: Row, units: float) -> None:
    """The number of a cell; its frame where it has a verdict, hatches where it is at chance."""
    found = table.verdicts.get(row.label)
    if found is None or not math.isfinite(found.comparison.delta):
        return
    is_found = found.verdict in FOUND
    if found.verdict == AT_CHANCE:
        axes.add_patch(_rectangle(x, y, facecolor="none", edgecolor=HATCH, hatch="///", linewidth=0))
    if is_found:
        axes.add_patch(_rectangle(x, y, 0.05, facecolor="none", edgecolor=INK, linewidth=1.3))
    strong = math.isfinite(units) and abs(units) > 0.62 * LIMIT
    axes.text(
        x,
        y,
        difference_of(table, found),
        ha="center",
        va="center",
        fontsize=7,
        weight="bold" if is_found else "normal",
        color="white" if strong else INK if math.isfinite(units) else GREY,
    )


def _rectangle(x: int, y: int, inside: float = 0.0, **look: Any) -> Rectangle:
    return Rectangle((x - 0.5 + inside, y - 0.5 + inside), 1 - 2 * inside, 1 - 2 * inside, **look)


def _lines(axes: Axes, rows: list[Row], shown: list[ScoreTable]) -> None:
    """Between sections, and between the families of scores."""
    for y in [y for y in range(1, len(rows)) if rows[y].section != rows[y - 1].section]:
        axes.axhline(y - 0.5, color=GREY, linewidth=0.6)
    for x in [x for x in range(1, len(shown)) if shown[x].is_primary != shown[x - 1].is_primary]:
        axes.axvline(x - 0.5, color=INK, linewidth=1.6)


def _bar(figure: Figure, axes: Axes, image: Any) -> None:
    width, height = figure.get_size_inches()
    frame = axes.get_position()
    place = figure.add_axes((frame.x1 + 0.2 / width, frame.y1 - BAR / height, 0.13 / width, BAR / height))
    bar = figure.colorbar(image, cax=place, extend="both", ticks=[-1, 0, 1])
    bar.outline.set_visible(False)
    bar.ax.set_yticklabels(["1, better", "0", "1, worse"])
    bar.ax.tick_params(labelsize=8)


def _legend(figure: Figure, axes: Axes, verdicts: set[str]) -> None:
    """What frames and hatches are, where there are some."""
    handles: list[Artist] = []
    if verdicts & {*FOUND}:
        handles.append(Patch(facecolor="none", edgecolor=INK, linewidth=1.3, label="better or worse by the test"))
    if AT_CHANCE in verdicts:
        hatched: dict[str, Any] = {"edgecolor": HATCH, "hatch": "///", "linewidth": 0}
        handles.append(Patch(facecolor="none", label="at chance: no verdict", **hatched))
    if handles:
        height, frame = figure.get_figheight(), axes.get_position()
        below = min(frame.y0, frame.y1 - BAR / height) - 0.08 / height
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.005, below)}
        figure.legend(handles=handles, ncols=2, columnspacing=1.2, handletextpad=0.4, **place)
