"""Our differences to the baseline against the published ones."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ablate.report.plots import drawing
from ablate.report.plots.drawing import BLUE, GREY, INK, Plot
from ablate.report.agreement import Agreement
from ablate.report.text import counted, fixed, shortened


def published(agreements: list[Agreement], title: str) -> Plot:
    """Our differences against the published ones."""
    name, caption = "published.png", f"Our differences to the baseline against those of {title}"
    if not agreements:
        return name, caption, None
    figure = Figure(figsize=(6.3 * len(agreements), 5.6))
    grid = figure.subplots(1, len(agreements), squeeze=False)[0]
    figure.subplots_adjust(left=0.075 * 2 / len(agreements), right=0.985, top=0.85, bottom=0.1, wspace=0.2)
    for axes, agreement in zip(grid, agreements, strict=True):
        x, y = agreement.theirs, agreement.ours
        for limit, values in ((axes.set_xlim, x), (axes.set_ylim, y)):
            low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
            limit(low - 0.12 * (high - low), high + 0.12 * (high - low))
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for corner in ((left, bottom), (right, top)):
            axes.fill_between([0, corner[0]], 0, corner[1], color=BLUE, alpha=0.06, linewidth=0)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.errorbar(
            x,
            y,
            yerr=np.nan_to_num(agreement.errors),
            fmt="o",
            color=INK,
            ecolor="#BBBBBB",
            elinewidth=1.2,
            markersize=5,
        )
        drawing.label_points(
            axes, [(x[i], y[i], shortened(agreement.labels[i], 30), INK) for i in np.argsort(-np.abs(y), kind="stable")]
        )
        which, there = agreement.column.replace("_", " "), agreement.published.replace("_", " ")
        axes.set_title(
            f"{which}{'' if which == there else f', published {there}'}: Spearman {fixed(agreement.spearman, 2)}, Kendall {fixed(agreement.kendall, 2)}, "
            f"same sign {agreement.equal_signs} of {agreement.signs}"
        )
        axes.set_xlabel(f"published: {there} minus its baseline's, nats per token")
        axes.set_ylabel(f"ours: {which} minus our baseline's, nats per token")
    figure.suptitle(
        f"Ours against {title}: {counted(len(agreements[0].labels), 'row')}, bars ± one standard error over our seeds; "
        "shaded: same sign. The scales differ.",
        x=0.012,
        y=0.975,
        ha="left",
        fontsize=10,
    )
    return name, caption, figure
