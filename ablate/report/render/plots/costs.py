"""Final loss against what it costs: steps a second and FLOPs a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablate.report.analysis.verdicts import (
    BASELINE,
    BETTER,
    WORSE,
    Row,
    Verdicts,
    comparable_speeds,
    mean,
)
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import BLUE, GREY, INK, LOOKS, NAME, PALE, Plot
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.text import fixed, scaled

FOUND = (BETTER, WORSE)
UNNAMED = "_unnamed"
SAME_COST = 0.01  # rows whose costs differ by less all cost the same


def costs(verdicts: Verdicts, selection: Selection | None = None) -> Plot:
    """Final loss against speed and against FLOPs, each with its Pareto front; the most important rows have names."""
    name, caption = "loss_vs_cost.png", "Final loss against speed and against FLOPs per step"
    alone = " with no other run under way" if verdicts.baseline.is_exclusive else " during training"
    sides = [
        Side(f"steps per second{alone}     faster →", comparable_speeds(verdicts), -1),
        Side("FLOPs per step     ← cheaper", {row.label: row.flops_per_step for row in verdicts}, 1),
    ]
    losses = losses_of(verdicts)
    rows = [row for row in verdicts if row.label in losses]
    drawn = [side for side in sides if _varies([side.costs[row.label] for row in rows])]
    if not drawn or verdicts.baseline not in rows or len(rows) < 2:
        return Plot(name, caption, None)
    changes = [row for row in rows if row.verdict != BASELINE]
    named = (selection or Selection.of(verdicts)).most_important(changes)
    note = left_out(changes, named, "named").replace("are left out", "have no name")
    labels = drawing.names(_label(row, verdicts) for row in (verdicts.baseline, *named))
    shown = {row.label: labels[_label(row, verdicts)] for row in (verdicts.baseline, *named)}
    wide = len(drawn) > 1
    height = max(5.4, 0.14 * len(shown) + 1.4)
    figure = Figure(figsize=(16.4 if wide else 9.2, height))
    grid = figure.subplots(1, len(drawn), squeeze=False)[0]
    figure.subplots_adjust(
        left=0.05 if wide else 0.09,
        right=0.875 if wide else 0.77,
        top=1 - (0.85 if wide else 1.15) / height,
        bottom=0.54 / height,
        wspace=0.42,
    )
    for axes, side in zip(grid, drawn, strict=True):
        _panel(axes, verdicts, [row for row in rows if math.isfinite(side.costs[row.label])], losses, side, shown)
    drawing.write_note(grid[0], note)
    grid[0].set_ylabel("final loss, nats per token (lower is better)")
    title = f"Final loss (baseline plus difference) against cost; star: {drawing.label(verdicts.baseline.label)}"
    figure.suptitle(title, x=0.012, y=1 - 0.08 / height, ha="left", va="top", fontsize=11)
    words = [word for word in LOOKS if any(row.verdict == word for row in rows)]
    handles: list[Artist] = [
        Line2D([], [], color=LOOKS[word][0], marker=LOOKS[word][1], linestyle="", label=word) for word in words
    ]
    handles += [
        Line2D(
            [],
            [],
            color=BLUE,
            linewidth=1,
            linestyle=":",
            label="Pareto front of the baseline and the rows better or worse than it",
        )
    ]
    if verdicts.noise > 0:
        handles += [Patch(color=PALE, label="± sd of the baseline over its seeds")]
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (0.005, 1 - 0.3 / height),
        "columnspacing": 1.2,
        "handletextpad": 0.3,
    }
    figure.legend(handles=handles, ncols=len(handles) if wide else math.ceil(len(handles) / 2), **place)
    return Plot(name, caption, figure, note)


def _label(row: Row, verdicts: Verdicts) -> str:
    """The row's name; where its colour is from a comparison with another row than the baseline, with that row's."""
    against = row.verdict in FOUND and row.control != verdicts.baseline.label
    return f"{row.label}, against {row.control}" if against else row.label


@dataclass(frozen=True)
class Side:
    """One kind of cost: the axis label, the cost of each row, and the sign that makes less cheaper."""

    label: str
    costs: dict[str, float]
    sign: int


def losses_of(verdicts: Verdicts) -> dict[str, float]:
    """The loss at which each row is drawn: the baseline's mean plus the difference over shared seeds.

    A row's own mean is over other seeds than the baseline's, and could be on the wrong side of it.
    """
    base = mean(verdicts.baseline.final)
    losses = {row.label: base + (0.0 if row.verdict == BASELINE else row.to_baseline.delta) for row in verdicts}
    return {label: loss for label, loss in losses.items() if math.isfinite(loss)}


def _panel(
    axes: Axes, verdicts: Verdicts, rows: list[Row], losses: dict[str, float], side: Side, names: dict[str, str]
) -> None:
    """Draw one side; the rows in `names` with their name, the others as small pale marks."""
    base = mean(verdicts.baseline.final)
    noise = verdicts.noise if verdicts.noise > 0 else 0.0
    gaps = [losses[row.label] - base for row in rows if row.label in names]
    low, high = drawing.robust_limits(gaps, max(3 * noise, 1e-3))
    margin = 0.09 * (high - low)
    bottom, top = base + low - margin, base + high + margin
    axes.set_ylim(bottom, top)
    costs = [side.costs[row.label] for row in rows]
    pad = 0.12 * (max(costs) - min(costs))
    axes.set_xlim(min(costs) - pad, max(costs) + pad)
    axes.axhspan(base - noise, base + noise, color=PALE, linewidth=0)
    axes.axvline(side.costs[verdicts.baseline.label], color=PALE, linewidth=1, zorder=1)
    baseline = verdicts.baseline.label
    kept = [row for row in rows if row.verdict == BASELINE or (row.verdict in FOUND and row.control == baseline)]
    _front(axes, [(side.sign * side.costs[row.label], losses[row.label]) for row in kept], side.sign)
    points = []
    _unnamed(axes, [row for row in rows if row.label not in names], losses, side)
    rows = [row for row in rows if row.label in names]
    for row in sorted(rows, key=lambda row: (row.verdict != BASELINE, -abs(losses[row.label] - base))):
        colour, marker = LOOKS[row.verdict]
        x, y, label = side.costs[row.label], losses[row.label], names[row.label]
        look: dict[str, Any] = {"marker": marker, "markersize": 6.5}
        if row.verdict == BASELINE:  # above the rows that cannot be told from it, with an edge that shows them
            look |= {"markersize": 11, "markeredgecolor": "white", "markeredgewidth": 0.6, "zorder": 3}
        if not bottom <= y <= top:
            look = {"marker": "^" if y > top else "v", "markersize": 6.5, "markerfacecolor": "none"}
            off = f" ({fixed(y, 2)}, off scale)"
            y = top - 0.25 * margin if y > top else bottom + 0.25 * margin
            label = drawing.label(label, NAME + 8 - len(off)) + off
        axes.plot(x, y, color=colour, linestyle="", **look)
        points.append((x, y, label, colour if row.verdict in FOUND else INK))
    axes.set_xlabel(side.label)
    axes.xaxis.set_major_formatter(lambda value, _: scaled(value))
    points.sort(key=lambda point: point[2] != names[baseline] and point[3] == INK)  # the baseline and verdicts first
    rest = set(drawing.label_points(axes, points, only_near=True))
    beside = [(*point[:3], GREY if point[3] == INK else point[3]) for point in points if point[2] in rest]
    drawing.label_lines(axes, beside, 9.5)


def _unnamed(axes: Axes, rows: list[Row], losses: dict[str, float], side: Side) -> None:
    """Rows without a name, in one artist for each verdict; those off the scale lie at its edge."""
    low, high = axes.get_ylim()
    for verdict in dict.fromkeys(row.verdict for row in rows):
        members = [row for row in rows if row.verdict == verdict]
        at = [min(max(losses[row.label], low), high) for row in members]
        colour, marker = LOOKS[verdict]
        look: dict[str, Any] = {"marker": marker, "markersize": 3, "alpha": 0.45, "zorder": 1.8, "label": UNNAMED}
        axes.plot([side.costs[row.label] for row in members], at, color=colour, linestyle="", **look)


def _varies(values: list[float]) -> bool:
    known = [value for value in values if math.isfinite(value)]
    return len(known) > 1 and max(known) - min(known) > SAME_COST * abs(float(np.median(known)))


def _front(axes: Axes, points: list[tuple[float, float]], sign: int) -> None:
    best, front = math.inf, []
    for cost, loss in sorted(points):
        if loss < best:
            best = loss
            front.append((sign * cost, loss))
    axes.plot(*zip(*front, strict=True), color=BLUE, linewidth=1, linestyle=":", zorder=1, drawstyle="steps-post")
