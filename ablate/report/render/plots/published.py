"""Our differences to the baseline against the published ones."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from ablate.report.analysis.agreement import Agreement
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import BLUE, GREY, INK, LINES, Plot
from ablate.report.render.plots.fonts import drawable
from ablate.report.render.plots.selection import MOST_ROWS, Selection
from ablate.report.text import counted, fixed

APART = 0.09  # of the axis, between two ticks of a scale that is not linear
NEAR = 0.8  # the share of differences in the linear part of an axis; beyond it, the axis is logarithmic


def published(
    agreements: list[Agreement], title: str, sections: dict[str, str], selection: Selection | None = None
) -> Plot:
    """Our differences against the published ones; `sections` maps a row to its section, shown by colour and marker."""
    name, caption = "published.png", f"Our differences to the baseline against those of {title}"
    drawn = [agreement for agreement in agreements if agreement.column == agreement.published]
    if not drawn:
        return Plot(name, caption, None)
    note = _unnamed(drawn, selection)
    figure = Figure(figsize=(12.6, 7.6 * len(drawn)))
    grid = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(
        left=0.071, right=0.82, top=1 - 0.72 / figure.get_figheight(), bottom=0.075 / len(drawn), hspace=0.2
    )
    named = list(dict.fromkeys(sections[label] for label in drawn[0].labels))
    colours = {section: LINES[number % len(LINES)] for number, section in enumerate(named)}
    marks = {section: "os^Dv"[number // len(LINES) % 5] for number, section in enumerate(named)}
    for axes, agreement in zip(grid, drawn, strict=True):
        looks = [(colours[sections[label]], marks[sections[label]]) for label in agreement.labels]
        _panel(axes, agreement, looks, selection)
    drawing.write_note(grid[-1], note)
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
    return Plot(name, caption, figure, note)


def _named(agreement: Agreement, selection: Selection | None) -> list[str]:
    """The labels that have a name in the picture."""
    labels = list(agreement.labels)
    return sorted(labels, key=lambda label: selection.place[label])[:MOST_ROWS] if selection else labels


def _unnamed(drawn: list[Agreement], selection: Selection | None) -> str:
    """How many rows have no name, in a sentence; empty where each has one."""
    rest = max(len(agreement.labels) - len(_named(agreement, selection)) for agreement in drawn)
    return f"{counted(rest, 'row')} without a name: see the tables." if rest else ""


def _panel(axes: Axes, agreement: Agreement, looks: list[tuple[str, str]], selection: Selection | None = None) -> None:
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
    names = drawing.names(_named(agreement, selection))
    order = np.array([i for i in order if agreement.labels[i] in names], int)
    points = [(x[i], y[i], names[agreement.labels[i]], INK) for i in order]
    rest = set(drawing.label_points(axes, points, 7.5, [*errors[order]]))
    drawing.label_lines(axes, [(*point[:3], GREY) for point in points if point[2] in rest], 9.5)
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
        set_limits(low * 1.4 if -low > near else low - 0.15 * near, high * 1.4 if high > near else high + 0.15 * near)
        axis = getattr(axes, f"{side}axis")
        axis.set_major_formatter(lambda value, _: fixed(value, 3).rstrip("0").rstrip(".") or "0")
        axis.set_ticks(_ticks(axis.get_transform(), *getattr(axes, f"get_{side}lim")()))
    else:
        set_limits(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _ticks(scale: Transform, low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high` that lie well apart on the axis, the roundest first: 0, then 1, 5 and 2."""
    powers = [10.0**power for power in range(math.ceil(math.log10(max(-low, high))), -5, -1)]
    candidates = [sign * times * power for power in powers for times in (1, 5, 2) for sign in (1, -1)]
    start, end = scale.transform([low, high])
    chosen = [0.0]
    for value in candidates:
        at = scale.transform([value, *chosen])
        if low <= value <= high and np.abs(at[1:] - at[0]).min() >= APART * (end - start):
            chosen.append(value)
    return sorted(chosen)
