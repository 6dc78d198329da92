"""The norm of the gradient over training, both axes logarithmic: the first steps are where warm-up shows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.curves_csv import GRADIENT_NORM
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.render.plots.drawing import Plot
from ablate.report.render.plots.panels import Line, draw_band, draw_diverged, figure, panels
from ablate.report.render.plots.selection import Selection

FILE = "gradient_norm.png"
CAPTION = "Norm of the gradient before clipping, over the steps, of each row and of the baseline (black)"
SENTENCES = (
    "Gradient norm before clipping",
    "each of the first steps, then means over some",
    "mean over seeds, band from the lowest to the highest",
)


def gradient_norm(results: Results, verdicts: Verdicts, selection: Selection) -> Plot:
    """The gradient norm of every row that has one, in panels of a few rows."""
    known = Curves.by_row(results, GRADIENT_NORM)
    shown, note = panels(verdicts, known, selection)
    if not shown:
        return Plot(FILE, CAPTION, None)
    any_diverged = any(line.curves.diverged for _, lines in shown for line in lines)
    tail = ["dashed, to a cross: a run that diverged"] if any_diverged else []
    return Plot(FILE, CAPTION, figure([*SENTENCES, *tail], shown, _draw, note), note)


def _draw(axes: Axes, lines: list[Line]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for line in lines:
        draw_band(axes, line)
        draw_diverged(axes, line, lambda step, norm: norm > 0)
        axes.plot([], [], color=line.colour, label=line.label)
    axes.set_xlabel("step")
    axes.set_ylabel("gradient norm")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize=8)
