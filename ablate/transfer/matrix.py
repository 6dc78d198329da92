"""The picture of the effects: a line a change, a column a context, coloured where it differs from its control."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import GREY, INK, Plot
from ablate.report.text import fixed
from ablate.statistics.comparison import ALPHA
from ablate.transfer.analysis import GAIN, Transfer

FILE, CELL = "transfer.png", 0.86  # inches of a column


def matrix(found: Transfer) -> Plot:
    """Effects by change and context, positive and blue where the change is better; grey: not told from 0 there."""
    caption = "Effect of each change in each context"
    if not len(found.changes):
        return Plot(FILE, caption, None)
    shown = found.effects
    differs = np.array(
        [
            [change in context.effects and context.effects[change].p_adjusted <= ALPHA for context in found.contexts]
            for change in found.changes
        ]
    )
    known = shown[np.isfinite(shown)]
    limit = float(np.quantile(np.abs(known), 0.9)) if len(known) else 1.0
    order = sorted(range(len(found.changes)), key=lambda row: -_mean(shown[row]))
    labels = [drawing.label(found.labels[row], 44) for row in order]
    columns = [_column(context.name) for context in found.contexts]
    left = 0.35 + 0.075 * max(map(len, labels))
    head = 0.9 + 0.075 * max(map(len, columns))
    width, height = left + CELL * len(columns) + 1.9, head + 0.27 * len(labels) + 0.2
    figure = Figure(figsize=(max(width, 5.5), height))
    width = figure.get_size_inches()[0]
    axes = figure.add_axes((left / width, 0.15 / height, CELL * len(columns) / width, 0.27 * len(labels) / height))
    coloured = np.ma.masked_array(shown[order], ~differs[order] | ~np.isfinite(shown[order]))
    axes.imshow(coloured, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(columns)), columns, rotation=55, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (y, x), value in np.ndenumerate(shown[order]):
        is_found = differs[order[y], x]
        shade = GREY if not is_found else "white" if abs(value) > 0.62 * limit else INK
        axes.text(x, y, _cell(value, found.unit), ha="center", va="center", fontsize=8, color=shade)
    for y, row in enumerate(order):
        verdict = found.rows[row].verdict
        axes.text(len(columns) - 0.4, y, verdict, va="center", fontsize=8.5, color=INK, clip_on=False)
    what = "times the tokens that it is worth" if found.unit == GAIN else "nats by which the loss is lower"
    figure.suptitle(
        f"{what[0].upper()}{what[1:]}; blue is better\ncoloured where the context's own test finds it",
        x=0.012,
        y=1 - 0.08 / height,
        ha="left",
        va="top",
        fontsize=10,
    )
    return Plot(FILE, caption, figure)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else -math.inf


def _column(name: str) -> str:
    return drawing.label(name.partition("/")[2] or name, 24)


def _cell(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "·"
    return f"{fixed(math.exp(value), 2)}×" if unit == GAIN else fixed(value, 3, signed=True)
