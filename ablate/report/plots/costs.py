"""Final loss against what it costs: steps a second and FLOPs a step."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablate.report.plots import drawing
from ablate.report.plots.drawing import BLUE, GREY, INK, LOOKS, PALE, Plot
from ablate.report.text import counted, fixed, scaled, shortened
from ablate.report.verdicts import (
    BASELINE,
    BETTER,
    HAS_DIVERGED,
    NO_VERDICT,
    NOT_COMPARABLE,
    UNDECIDED,
    WORSE,
    Verdicts,
    comparable_speeds,
    mean,
)

SAME_COST = 0.01  # rows whose costs differ by less all cost the same


def costs(verdicts: Verdicts) -> Plot:
    """Final loss against speed and against FLOPs, with the front of rows that nothing beats in both."""
    name, caption = "loss_vs_cost.png", "Final loss against speed and against FLOPs a step"
    speeds = comparable_speeds(verdicts)
    alone = " with nothing else running" if verdicts.baseline.is_exclusive else " during training"
    sides = [
        (f"steps per second{alone}", "faster →", speeds, -1),
        ("FLOPs per step", "← cheaper", {row.label: row.flops_per_step for row in verdicts}, 1),
    ]
    rows = [row for row in verdicts if row.verdict != NOT_COMPARABLE and math.isfinite(mean(row.final))]
    drawn = [side for side in sides if _varies([side[2][row.label] for row in rows])]
    if not drawn or len(rows) < 2:
        return name, caption, None
    figure = Figure(figsize=(6.6 * len(drawn), 5.4))
    grid = figure.subplots(1, len(drawn), squeeze=False)[0]
    figure.subplots_adjust(left=0.065 * 2 / len(drawn), right=0.985, top=0.84, bottom=0.1, wspace=0.16)
    base = mean(verdicts.baseline.final)
    differences = [mean(row.final) - base for row in rows]
    low, high = drawing.robust_limits(differences, 3 * verdicts.noise if verdicts.noise > 0 else 1e-3)
    margin = 0.09 * (high - low)
    for axes, (what, direction, costs, sign) in zip(grid, drawn, strict=True):
        members = [row for row in rows if math.isfinite(costs[row.label])]
        axes.set_ylim(base + low - margin, base + high + margin)
        if verdicts.noise > 0:
            axes.axhspan(base - verdicts.noise, base + verdicts.noise, color=PALE, linewidth=0)
        values = [costs[row.label] for row in members]
        pad = 0.12 * (max(values) - min(values))
        axes.set_xlim(min(values) - pad, max(values) + pad)
        axes.axvline(costs[verdicts.baseline.label], color=PALE, linewidth=1, zorder=1)
        _front(axes, [(sign * costs[row.label], mean(row.final)) for row in members], sign)
        points = []
        for row in sorted(members, key=lambda row: (row.verdict != BASELINE, -abs(mean(row.final) - base))):
            colour, marker = LOOKS[row.verdict]
            y = mean(row.final)
            top = base + high + margin
            inside = y <= top
            axes.plot(
                costs[row.label],
                y if inside else top - 0.25 * margin,
                marker=marker if inside else "^",
                color=colour,
                markersize=11 if row.verdict == BASELINE else 6.5,
                linestyle="",
                markerfacecolor=colour if inside else "none",
            )
            label = shortened(row.label, 30) if inside else f"{shortened(row.label, 30)} ({fixed(y, 2)}, off scale)"
            points.append(
                (
                    costs[row.label],
                    y if inside else top - 0.25 * margin,
                    label,
                    colour if row.verdict in (BETTER, WORSE) else INK,
                )
            )
        axes.set_xlabel(f"{what}     {direction}")
        axes.xaxis.set_major_formatter(lambda value, _: scaled(value))
        left_out = drawing.label_points(axes, points)
        if left_out:
            axes.text(
                0.99,
                0.01,
                f"{counted(len(left_out), 'row')} without room for a name: see the table",
                transform=axes.transAxes,
                ha="right",
                va="bottom",
                fontsize=7.5,
                color=GREY,
            )
    grid[0].set_ylabel("final loss, nats per token (lower is better)")
    figure.suptitle(
        f"Final loss (mean over seeds) against cost; star: {shortened(verdicts.baseline.label)}",
        x=0.012,
        y=0.985,
        ha="left",
        fontsize=11,
    )
    words = [
        word
        for word in (BASELINE, BETTER, UNDECIDED, WORSE, NO_VERDICT, HAS_DIVERGED)
        if any(row.verdict == word for row in rows)
    ]
    handles = [Line2D([], [], color=LOOKS[word][0], marker=LOOKS[word][1], linestyle="", label=word) for word in words]
    handles += [Line2D([], [], color=BLUE, linewidth=1, linestyle=":", label="nothing is better at this cost or less")]
    if verdicts.noise > 0:
        handles += [Patch(color=PALE, label="± sd of the baseline over its seeds")]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.005, 0.945),
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.3,
    )
    return name, caption, figure


def _varies(values: list[float]) -> bool:
    known = [value for value in values if math.isfinite(value)]
    return len(known) > 1 and max(known) - min(known) > SAME_COST * abs(np.median(known))


def _front(axes: Axes, points: list[tuple[float, float]], sign: int) -> None:
    best, front = math.inf, []
    for cost, loss in sorted(points):
        if loss < best:
            best = loss
            front.append((sign * cost, loss))
    axes.plot(*zip(*front, strict=True), color=BLUE, linewidth=1, linestyle=":", zorder=1, drawstyle="steps-post")
