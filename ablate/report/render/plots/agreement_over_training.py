"""How close the order of our rows is to the published one, from the first steps to the last."""

from __future__ import annotations

from matplotlib.figure import Figure

from ablate.report.analysis.agreement_over_training import OWN, AgreementOverTraining
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import BLUE, GREY, VERMILLION, Plot
from ablate.report.render.plots.fonts import drawable
from ablate.report.text import counted

COLOURS = {"final_loss": BLUE, "early_loss": VERMILLION, OWN: GREY}
LINES = {"final_loss": "-", "early_loss": "--", OWN: ":"}  # where two coincide, both can be seen


def agreement_over_training(found: AgreementOverTraining | None, title: str) -> Plot:
    """A line for each order that ours is compared with, a point for each tenth of the steps."""
    name, caption = "course.png", "Agreement of the order of our rows with the published one over training"
    if found is None:
        return Plot(name, caption, None)
    figure = Figure(figsize=(9.5, 3.9))
    axes = figure.add_axes((0.08, 0.13, 0.66, 0.65))
    lowest = min(0.0, *(value for figures in found.spearman.values() for value in figures))
    axes.set_ylim(lowest - 0.05, 1.05)
    axes.set_xlim(0, found.steps[-1])
    axes.axhline(0, color=GREY, linewidth=0.8)
    ends = []
    for against, figures in sorted(found.spearman.items(), key=lambda pair: [*LINES].index(pair[0])):
        colour, line = COLOURS[against], LINES[against]
        axes.plot(found.steps, figures, line, marker="o", markersize=4, color=colour, clip_on=False)
        words = against.replace("_", " ")
        ends.append((found.steps[-1], figures[-1], words if against == OWN else f"published {words}", colour))
    drawing.label_lines(axes, ends)
    axes.set_xlabel("step at which a tenth of the training ends")
    axes.set_ylabel("Spearman's rank correlation")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.suptitle(
        f"Order of {counted(found.rows, 'row')} by training loss, and that of {drawable(title)}\n"
        "Differences to the baseline on the same batches, mean over seeds and over a tenth of the steps",
        x=0.012,
        y=0.97,
        ha="left",
        fontsize=10,
    )
    return Plot(name, caption, figure)
