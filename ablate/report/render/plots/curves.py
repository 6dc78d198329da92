"""Loss over training, in small panels, and its distance from the baseline's on the same batches."""

from __future__ import annotations

import math
import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import NOT_COMPARABLE, Row, Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import INK, LINES, NAME, Plot
from ablate.report.render.plots.selection import MOST_CURVES, Selection, left_out

LINES_A_PANEL = 6
TITLE = 72  # characters of the title above a column of panels
PANEL = (6.1, 2.45)  # inches, with the room for names and axes
FIRST_PART = 0.2  # of the steps, left out of the loss curves: the steep start would hide the rest
GAP_PART = 0.4  # of the steps, ignored when the scale is chosen
CURVE_CAPTION = "Training loss of each row and of the baseline (black)"
GAP_CAPTION = "Training loss minus the baseline's on the same batches: whether a difference grows or fades"

Panel = tuple[str, list[tuple[str, Curves, str]]]  # title; (name, curves, colour) of each line


def curves(results: Results, verdicts: Verdicts, selection: Selection | None = None) -> list[Plot]:
    """Training loss, and its distance from the baseline's on the same batches, in panels of at most six rows."""
    known = Curves.by_row(results)
    base = known.get(verdicts.baseline.label, Curves({}, {}))
    rows = [row for row in verdicts.ordered() if row.verdict != NOT_COMPARABLE and row.label in known]
    shown = (selection or Selection.of(verdicts)).most_important(rows, MOST_CURVES)
    panels = _panels(shown, known, by_section=len(shown) == len(rows))
    if not panels or not base.done:
        return []
    name, last = drawing.label(verdicts.baseline.label, NAME), base.last
    gaps = [
        (title, [(label, curves.minus(base), colour) for label, curves, colour in lines]) for title, lines in panels
    ]
    edges = [edge for _, lines in gaps for _, gap, _ in lines for edge in gap.after(GAP_PART * last)[1:].flat]
    low, high = drawing.robust_limits(edges, 1e-4)
    if not len(base.after(FIRST_PART * last)[2]):  # the baseline's runs share no step after the first part
        return []
    with_base = [(title, [(name, base, INK), *lines]) for title, lines in panels]
    left_out_steps = f"the first {FIRST_PART:.0%} of the steps are left out".replace("%", " %")
    any_diverged = any(curves.diverged for _, lines in panels for _, curves, _ in lines)
    tail = ["one scale for all panels"] if len(panels) > 1 else []
    tail += ["dashed, to a cross: a run that diverged"] if any_diverged else []
    note = left_out(rows, shown)
    drawn: list[Plot] = []
    for file, caption, head, panels, limits in (
        (
            "loss_curves.png",
            CURVE_CAPTION,
            f"Training loss; {left_out_steps}",
            with_base,
            _limits(base, gaps, low, high),
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
        title = [*textwrap.wrap("; ".join(parts), TITLE * min(2, len(panels)))]
        title += textwrap.wrap(note, TITLE * min(2, len(panels)))
        figure = _figure(title, panels, limits, last, f"{what}, nats per token")
        drawn.append(Plot(file, caption, figure, note))
    return drawn


def _limits(base: Curves, gaps: list[Panel], low: float, high: float) -> tuple[float, float]:
    """The scale of the losses: of the baseline and of the rows whose gap to it is on the scale of the gaps.

    As that one it is chosen for the later part of the steps, in which the rows lie closest together.
    """
    steps, lowest, middle, highest = base.after(GAP_PART * base.last)
    if not len(steps):
        _, lowest, middle, highest = base.after(FIRST_PART * base.last)
        return float(lowest.min()), float(highest.max())
    losses, means = [*lowest, *highest], dict(zip(steps, middle, strict=True))
    for _, lines in gaps:
        for _, gap, _ in lines:
            at, below, _, above = gap.after(GAP_PART * base.last)
            for edge in (below, above):
                inside = (edge >= low) & (edge <= high)
                losses += [
                    means[step] + far for step, far in zip(at[inside], edge[inside], strict=True) if step in means
                ]
    return float(min(losses)), float(max(losses))


def _figure(lines: list[str], panels: list[Panel], limits: tuple[float, float], last: int, unit: str) -> Figure:
    """Panels in two columns, each with room for labels on its right."""
    columns = min(2, len(panels))
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


def _panels(rows: list[Row], known: dict[str, Curves], by_section: bool) -> list[Panel]:
    """The rows from the best to the worst, those of each section by themselves, a few at a time."""
    sections: dict[str, list[Row]] = {}
    if not by_section:  # a few of many rows: most sections would have one line
        rows = sorted(rows, key=lambda row: (math.isnan(row.comparison.delta), row.comparison.delta))
    for row in rows:
        sections.setdefault(row.section if by_section else "", []).append(row)
    names, panels = drawing.names((row.label for row in rows), NAME), []
    for section, members in sections.items():
        parts = math.ceil(len(members) / LINES_A_PANEL)
        for part in range(parts):
            name = drawing.label(section) if len(sections) > 1 else "rows from the best to the worst"
            title = f"{name} ({part + 1} of {parts})" if parts > 1 else name
            chosen = members[part * len(members) // parts : (part + 1) * len(members) // parts]
            lines = [(names[row.label], known[row.label], colour) for row, colour in zip(chosen, LINES, strict=False)]
            panels.append((title, lines))
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
    drawing.label_lines(axes, ends, signed=axes.get_ylim()[0] < 0)
