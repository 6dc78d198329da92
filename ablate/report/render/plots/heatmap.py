"""The losses of every row in units of the baseline's spread over its seeds."""

from __future__ import annotations

import math
import textwrap

import numpy as np
from matplotlib.figure import Figure

from ablate.report.analysis.metrics import EARLY, FINAL, Metric
from ablate.report.analysis.verdicts import BETTER, NOT_COMPARABLE, WORSE, Row, Verdicts, mean, spread
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import GREY, INK, Plot
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.text import counted, fixed

BAR = 1.5  # inches of the bar of colours
MARKS = {BETTER: "▼", WORSE: "▲"}


def heatmap(verdicts: Verdicts, selection: Selection | None = None) -> Plot:
    """Each loss's difference to the baseline in sd of the baseline over seeds; rows with a verdict are coloured.

    The scores of evaluations have a picture of their own, with verdicts of their own.
    """
    what = "both losses" if verdicts.scores.tables else "every metric"
    name, caption = "heatmap.png", f"Difference of {what} to the baseline's, in sd of the baseline over its seeds"
    base = verdicts.baseline
    metrics, scales = [EARLY, FINAL], [spread(base.early), spread(base.final)]
    kept = [index for index, scale in enumerate(scales) if scale > 0]
    comparable = [row for row in verdicts.ordered() if row.verdict != NOT_COMPARABLE and row.done]
    if not kept or not comparable:
        return Plot(name, caption, None)
    rows = (selection or Selection.of(verdicts)).most_important(comparable)
    note = left_out(comparable, rows)
    table = np.array([[_sds(row, base, metrics[index]) / scales[index] for index in kept] for row in rows])
    is_found = np.array([_is_found(row, base) for row in rows])
    signs = [metrics[index].sign for index in kept]
    worse = np.ma.masked_array(table * signs, np.repeat(~is_found[:, None], len(kept), axis=1))
    labels = [_label(row, base) for row in rows]
    left, wide = 0.35 + 0.075 * max(map(len, labels)), 0.95 * len(kept)
    tall, head = 0.25 * len(rows), 1.25 + (0.3 if note else 0)
    figure = Figure(figsize=(max(left + wide + 0.9, 4.6), tall + max(0.0, BAR - tall) + head))
    width, height = figure.get_size_inches()
    top = 1 - (head - 0.15) / height
    axes = figure.add_axes((left / width, top - tall / height, wide / width, tall / height))
    limit = 6.0
    image = axes.imshow(worse, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(kept)), [drawing.label(metrics[index].name, 18) for index in kept])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (y, x), value in np.ndenumerate(table):
        shade = GREY if not is_found[y] else "white" if abs(value) > 0.62 * limit else INK
        axes.text(
            x,
            y,
            fixed(value, 1 if abs(value) < 9.95 else 0, signed=True),
            ha="center",
            va="center",
            fontsize=8,
            color=shade,
        )
    for y in [y for y in range(1, len(rows)) if rows[y].section != rows[y - 1].section]:
        axes.axhline(y - 0.5, color=GREY, linewidth=0.6)
    tall_bar = BAR / height
    place = figure.add_axes(((left + wide + 0.2) / width, top - tall_bar, 0.13 / width, tall_bar))
    bar = figure.colorbar(image, cax=place, extend="both")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(
        f"Difference to {drawing.label(base.label, 30)} in sd of its {counted(base.learned, 'seed')}\n"
        "coloured: ▼ better and ▲ worse than it by their final loss; no colour: no verdict against it\n"
        f"blue is better; the sign is as measured{_below(note)}",
        x=0.012,
        y=1 - 0.08 / height,
        ha="left",
        va="top",
        fontsize=10,
    )
    return Plot(name, caption, figure, note)


def _below(note: str) -> str:
    return "\n" + textwrap.fill(note, 90) if note else ""


def _is_found(row: Row, base: Row) -> bool:
    """Whether the row is better or worse than the baseline; of others the colour of a number would be noise."""
    return row.verdict in MARKS and row.control == base.label


def _label(row: Row, base: Row) -> str:
    """The row's name after a mark of its verdict."""
    against = f", against {row.control}" if row.verdict in MARKS and row.control != base.label else ""
    return f"{MARKS.get(row.verdict, '')} {drawing.label(row.label + against, 44)}".strip()


def _sds(row: Row, base: Row, metric: Metric) -> float:
    """The difference of a loss to the baseline's, over shared seeds."""
    if metric is FINAL:
        return row.to_baseline.delta
    both = row.early - base.early
    return row.early_to_baseline.delta if math.isfinite(row.early_to_baseline.delta) else mean(both)
