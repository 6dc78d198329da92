"""Loss over training, in small panels, and its distance from the baseline's on the same batches."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from matplotlib.axes import Axes

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import NOT_COMPARABLE, Row, Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import INK, NAME, Plot
from ablate.report.render.plots.panels import Layout, Line, Panel, draw_band, draw_diverged, figure, numbered
from ablate.report.render.plots.selection import MOST_CURVES, Selection, left_out

LAYOUT = Layout(margin=0.6, panel=(6.1, 2.45), axes=(3.1, 1.75), title=72)  # with room for longer names
FIRST_PART = 0.2  # of the steps, left out of the loss curves: the steep start would hide the rest
GAP_PART = 0.4  # of the steps, ignored when the scale is chosen
ONE_SECTION = "rows from the best to the worst"
FILES = {"loss": "loss_curves.png", "gap": "loss_gap.png"}
CURVE_CAPTION = "Training loss of each row and of the baseline (black)"
GAP_CAPTION = "Training loss minus the baseline's on the same batches: whether a difference grows or fades"


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
    gaps = [(title, [replace(line, curves=line.curves.minus(base)) for line in lines]) for title, lines in panels]
    edges = [edge for _, lines in gaps for line in lines for edge in line.curves.after(GAP_PART * last)[1:].flat]
    low, high = drawing.robust_limits(edges, 1e-4)
    if not len(base.after(FIRST_PART * last)[2]):  # the baseline's runs share no step after the first part
        return []
    of_base = Line(verdicts.baseline.label, name, base, INK)
    with_base = [(title, [of_base, *lines]) for title, lines in panels]
    left_out_steps = f"the first {FIRST_PART:.0%} of the steps are left out".replace("%", " %")
    any_diverged = any(line.curves.diverged for _, lines in panels for line in lines)
    tail = ["one scale for all panels"] if len(panels) > 1 else []
    tail += ["dashed, to a cross: a run that diverged"] if any_diverged else []
    note = left_out(rows, shown)
    drawn: list[Plot] = []
    for what, caption, head, panels, limits in (
        ("loss", CURVE_CAPTION, f"Training loss; {left_out_steps}", with_base, _limits(base, gaps, low, high)),
        (
            "gap",
            GAP_CAPTION,
            f"Training loss minus that of {name} on the same batches; below 0 is better",
            gaps,
            (low, high),
        ),
    ):
        sentences = [head, "mean over seeds, band from the lowest to the highest", *tail]
        draw = partial(_draw, limits=limits, last=last, unit=f"{what}, nats per token")
        drawn.append(Plot(FILES[what], caption, figure(sentences, panels, draw, note, LAYOUT), note))
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
        for line in lines:
            at, below, _, above = line.curves.after(GAP_PART * base.last)
            for edge in (below, above):
                inside = (edge >= low) & (edge <= high)
                losses += [
                    means[step] + far for step, far in zip(at[inside], edge[inside], strict=True) if step in means
                ]
    return float(min(losses)), float(max(losses))


def _panels(rows: list[Row], known: dict[str, Curves], by_section: bool) -> list[Panel]:
    """The rows from the best to the worst, those of each section by themselves, a few at a time."""
    sections: dict[str, list[str]] = {}
    if not by_section:  # a few of many rows: most sections would have one line
        rows = sorted(rows, key=lambda row: (math.isnan(row.comparison.delta), row.comparison.delta))
    for row in rows:
        sections.setdefault(row.section if by_section else "", []).append(row.label)
    names = drawing.names((row.label for row in rows), NAME)
    titles = {section: drawing.label(section) if len(sections) > 1 else ONE_SECTION for section in sections}
    return [panel for section, rows in sections.items() for panel in numbered(titles[section], rows, known, names)]


def _draw(axes: Axes, lines: list[Line], *, limits: tuple[float, float], last: int, unit: str) -> None:
    margin = 0.05 * (limits[1] - limits[0])
    axes.set_xlim(FIRST_PART * last, last)
    axes.set_ylim(limits[0] - margin, limits[1] + margin)
    if limits[0] <= 0 <= limits[1]:
        axes.axhline(0, color=INK, linewidth=1.0)
    _draw_lines(axes, lines)
    axes.set_ylabel(unit)
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=5)


def _draw_lines(axes: Axes, lines: list[Line]) -> None:
    first, ends = axes.get_xlim()[0], []
    for line in lines:
        steps, _, middle, _ = draw_band(axes, line, first)
        crosses = draw_diverged(axes, line, lambda step, _: step >= first)
        if len(steps):
            ends.append((float(steps[-1]), float(middle[-1]), line.label, line.colour))
        elif crosses:
            ends.append((*crosses[0], line.label, line.colour))
    drawing.label_lines(axes, ends, signed=axes.get_ylim()[0] < 0)
