"""Loss over training, in small panels, and its distance from the baseline's on the same batches."""

from __future__ import annotations

import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import NOT_COMPARABLE, Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import INK, LINES, Plot

LINES_A_PANEL = 6
NAME = 27  # characters of a name that fit beside a panel
PANEL = (5.6, 2.45)  # inches, with the room for names and axes
FIRST_PART = 0.2  # of the steps, left out of the loss curves: the steep start would hide the rest
GAP_PART = 0.4  # of the steps, ignored when the scale of the gaps is chosen
CURVE_CAPTION = "Training loss of each row and of the baseline (black)"
GAP_CAPTION = "Training loss minus the baseline's on the same batches: whether a difference grows or fades"

Panel = tuple[str, list[tuple[str, Curves, str]]]  # title; (name, curves, colour) of each line


def curves(results: Results, verdicts: Verdicts) -> list[Plot]:
    """Training loss, and its distance from the baseline's on the same batches, in panels of at most six rows."""
    base = Curves.of(results, verdicts.baseline.label)
    panels = _panels(results, verdicts)
    if not panels or not base.done:
        return []
    name, last = drawing.label(verdicts.baseline.label, NAME), base.last
    gaps = [
        (title, [(label, curves.minus(base), colour) for label, curves, colour in lines]) for title, lines in panels
    ]
    edges = [edge for _, lines in gaps for _, gap, _ in lines for edge in gap.after(GAP_PART * last)[1:].flat]
    low, high = drawing.robust_limits(edges, 1e-4)
    middle = base.after(FIRST_PART * last)[2]
    if not len(middle):  # the baseline's runs share no step after the first part
        return []
    with_base = [(title, [(name, base, INK), *lines]) for title, lines in panels]
    left_out = f"the first {FIRST_PART:.0%} of the steps are left out".replace("%", " %")
    any_diverged = any(curves.diverged for _, lines in panels for _, curves, _ in lines)
    tail = ["one scale for all panels"] if len(panels) > 1 else []
    tail += ["dashed, to a cross: a run that diverged"] if any_diverged else []
    drawn: list[Plot] = []
    for file, caption, head, panels, limits in (
        (
            "loss_curves.png",
            CURVE_CAPTION,
            f"Training loss; {left_out}",
            with_base,
            (middle.min() + low, middle.max() + high),
        ),
        (
            "loss_gap.png",
            GAP_CAPTION,
            f"Training loss minus that of {name} on the same batches; below 0 is better",
            gaps,
            (low, high),
        ),
    ):
        parts = [head, "mean over seeds, band from the lowest to the highest", *tail]
        what = "gap" if file == "loss_gap.png" else "loss"
        drawn.append((file, caption, _figure("; ".join(parts), panels, limits, last, f"{what}, nats per token")))
    return drawn


def _figure(title: str, panels: list[Panel], limits: tuple[float, float], last: int, unit: str) -> Figure:
    """Panels in two columns, each with room for labels on its right."""
    columns = min(2, len(panels))
    lines = textwrap.wrap(title, 66 * columns)
    head = 0.45 + 0.16 * len(lines)
    width, height = 0.6 + PANEL[0] * columns, head + PANEL[1] * math.ceil(len(panels) / 2)
    figure = Figure(figsize=(width, height))
    margin = 0.05 * (limits[1] - limits[0])
    for number, (name, members) in enumerate(panels):
        left, top = 0.6 + PANEL[0] * (number % 2), head + PANEL[1] * (number // 2)
        axes = figure.add_axes((left / width, 1 - (top + 1.75) / height, 3.1 / width, 1.75 / height))
        axes.set_xlim(FIRST_PART * last, last)
        axes.set_ylim(limits[0] - margin, limits[1] + margin)
        if limits[0] <= 0 <= limits[1]:
            axes.axhline(0, color=INK, linewidth=1.0)
        _draw_lines(axes, members)
        axes.set_title(name, weight="bold")
        axes.set_ylabel(unit)
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="x", nbins=5)
    figure.suptitle("\n".join(lines), x=0.012, ha="left", fontsize=9.5, y=1 - 0.08 / height, va="top")
    return figure


def _panels(results: Results, verdicts: Verdicts) -> list[Panel]:
    """The rows of each section that have curves, from the best to the worst, a few at a time."""
    panels = []
    for section in verdicts.sections:
        rows = [row for row in verdicts.ordered() if row.section == section and row.verdict != NOT_COMPARABLE]
        found = [(drawing.label(row.label, NAME), Curves.of(results, row.label)) for row in rows]
        found = [(label, curves) for label, curves in found if curves.done or curves.diverged]
        parts = math.ceil(len(found) / LINES_A_PANEL)
        for part in range(parts):
            name = drawing.label(section) if len(verdicts.sections) > 1 else "rows from the best to the worst"
            title = f"{name} ({part + 1} of {parts})" if parts > 1 else name
            members = found[part * len(found) // parts : (part + 1) * len(found) // parts]
            panels.append((title, [(*line, colour) for line, colour in zip(members, LINES, strict=False)]))
    return panels


def _draw_lines(axes: Axes, lines: list[tuple[str, Curves, str]]) -> None:
    first, ends = axes.get_xlim()[0], []
    for label, curves, colour in lines:
        steps, low, middle, high = curves.after(first)
        if len(steps):
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(steps, middle, color=colour, linewidth=1.4, zorder=3 if colour == INK else 2)
            ends.append((float(steps[-1]), float(middle[-1]), label, colour))
        for points in curves.diverged.values():
            known = [(step, loss) for step, loss in points.items() if step >= first]
            if not known:
                continue
            axes.plot(*zip(*known, strict=True), color=colour, linewidth=1.0, linestyle="--")
            axes.plot(*known[-1], color=colour, marker="x", markersize=7)
            if not len(steps) and (not ends or ends[-1][2] != label):
                ends.append((*known[-1], label, colour))
    drawing.label_lines(axes, ends)
