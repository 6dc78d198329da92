"""Our differences to the baseline against the published ones."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.report.analysis.agreement import Agreement
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import BLUE, GREY, INK, LINES, Plot
from ablate.report.render.plots.fonts import drawable
from ablate.report.text import counted, fixed

NEAR = 0.8  # the share of differences in the linear part of an axis; beyond it, the axis is logarithmic


def published(agreements: list[Agreement], title: str, sections: dict[str, str]) -> Plot:
    """Our differences against the published ones; `sections` maps a row to its section, shown by colour and marker."""
    name, caption = "published.png", f"Our differences to the baseline against those of {title}"
    drawn = [agreement for agreement in agreements if agreement.column == agreement.published]
    if not drawn:
        return name, caption, None
    figure = Figure(figsize=(10.5, 7.6 * len(drawn)))
    grid = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.085, right=0.985, top=1 - 0.72 / figure.get_figheight(), bottom=0.075 / len(drawn), hspace=0.2
    )
    named = list(dict.fromkeys(sections[label] for label in drawn[0].labels))
    colours = {section: LINES[number % len(LINES)] for number, section in enumerate(named)}
    marks = {section: "os^Dv"[number // len(LINES) % 5] for number, section in enumerate(named)}
    for axes, agreement in zip(grid, drawn, strict=True):
        _panel(axes, agreement, [(colours[sections[label]], marks[sections[label]]) for label in agreement.labels])
    any_logarithmic = any("symlog" in (axes.get_xscale(), axes.get_yscale()) for axes in grid)
    if len(named) > 1:
        handles = [
            axes.plot([], [], linestyle="", marker=marks[section], color=colours[section])[0] for section in named
        ]
        names = [drawing.label(section) for section in named]
        grid[0].legend(handles, names, loc="upper left", fontsize=8, frameon=True, framealpha=0.85, edgecolor="none")
    figure.suptitle(
        f"Ours against {drawable(title)}: {counted(len(drawn[0].labels), 'row')}, "
        "bars ± one standard error over our seeds;\n"
        f"shaded: same sign. The scales differ{'; far from zero they are logarithmic' if any_logarithmic else ''}.",
        x=0.012,
        y=1 - 0.1 / figure.get_figheight(),
        ha="left",
        fontsize=10,
    )
    return name, caption, figure


def _panel(axes: Axes, agreement: Agreement, looks: list[tuple[str, str]]) -> None:
    x, y = agreement.theirs, agreement.ours
    _scaled(axes, "x", x)
    errors = np.nan_to_num(agreement.errors)
    _scaled(axes, "y", y, errors)
    for corner in (0, 1):
        axes.fill_between([0, axes.get_xlim()[corner]], 0, axes.get_ylim()[corner], color=BLUE, alpha=0.06, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axvline(0, color=GREY, linewidth=0.8)
    for at, (colour, mark) in enumerate(looks):
        axes.errorbar(
            x[at], y[at], yerr=errors[at], fmt=mark, color=colour, ecolor="#BBBBBB", elinewidth=1.2, markersize=5
        )
    order = np.argsort(-np.abs(y), kind="stable")
    points = [(x[i], y[i], drawing.label(agreement.labels[i], 30), INK) for i in order]
    drawing.note_unlabelled(axes, drawing.label_points(axes, points, 7.5, [*errors[order]]))
    which = agreement.column.replace("_", " ")
    axes.set_title(
        f"{which}: Spearman {fixed(agreement.spearman, 2)}, Kendall {fixed(agreement.kendall, 2)}, "
        f"same sign {agreement.equal_signs} of {agreement.signs}"
    )
    axes.set_xlabel(f"published: {which} minus its baseline's, nats per token")
    axes.set_ylabel(f"ours: {which} minus our baseline's, nats per token")


def _scaled(axes: Axes, side: str, values: np.ndarray, errors: np.ndarray | float = 0.0) -> None:
    """An axis that holds zero and `values` with their `errors`: linear where most of them are, logarithmic beyond."""
    low, high = min(0.0, float((values - errors).min())), max(0.0, float((values + errors).max()))
    near, most = float(np.quantile(np.abs(values), NEAR)), max(-low, high)
    set_scale, set_limits = getattr(axes, f"set_{side}scale"), getattr(axes, f"set_{side}lim")
    if 0 < 3 * near < most:
        set_scale("symlog", linthresh=near, linscale=2.0)
        getattr(axes, f"{side}axis").set_major_formatter(lambda value, _: f"{value:g}")
        set_limits(low * 1.4 if -low > near else low - 0.15 * near, high * 1.4 if high > near else high + 0.15 * near)
    else:
        set_limits(low - 0.08 * (high - low), high + 0.08 * (high - low))
