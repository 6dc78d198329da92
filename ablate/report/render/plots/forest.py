"""Each row's difference to its control with its interval, over a band of the baseline's spread over seeds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablate.report.analysis.score_verdicts import AT_CHANCE
from ablate.report.analysis.verdicts import (
    ABOVE_CHANCE,
    BETTER,
    HAS_DIVERGED,
    NO_VERDICT,
    SAME,
    UNDECIDED,
    WORSE,
    Row,
    Verdicts,
)
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import GREY, INK, LOOKS, PALE, Plot
from ablate.report.render.plots.fonts import drawable
from ablate.report.render.plots.selection import Selection, left_out
from ablate.report.render.summary import headline
from ablate.report.text import counted, fixed
from ablate.statistics.comparison import Comparison
from ablate.statistics.gain import Rungs

ACROSS = 4.5  # inches of the axes
GAIN_TICKS = (1, 2, 0.5, 4, 0.25, 1.5, 0.75, 1.25, 3, 8, 0.125, 1.1, 0.9)  # where there is no room, the first of them


@dataclass(frozen=True)
class Entry:
    """A line of the plot: how a row differs from its control in something, and `seeds` (seeds,), the difference of each
    seed."""

    row: Row
    comparison: Comparison
    verdict: str
    words: str
    why: str
    seeds: np.ndarray


@dataclass(frozen=True)
class Measure:
    """What is compared: the axis says `axis`, and on which side of zero is better; `noise` is the baseline's sd."""

    axis: str
    noise: float
    runs: int  # behind the noise
    shown: Callable[[float], str]  # a difference as text
    least: float  # that the axis shows on either side of zero
    higher_is_better: bool = False

    @property
    def directions(self) -> str:
        """The axis label with the sides."""
        sides = "← worse · better →" if self.higher_is_better else "← better · worse →"
        return f"{self.axis}     {sides}"

    def look(self, verdict: str) -> tuple[str, str]:
        """Colour and marker of a verdict: the markers of better and worse point where these are."""
        colour, marker = LOOKS[verdict]
        return colour, {"v": "^", "^": "v"}.get(marker, marker) if self.higher_is_better else marker


def forest(verdicts: Verdicts, selection: Selection | None = None) -> Plot:
    """Difference to the control with interval, by section; the band is the baseline's spread over seeds."""
    known = [row for row in verdicts.ordered() if math.isfinite(row.comparison.delta)]
    shown = (selection or Selection.of(verdicts)).most_important(known)
    note, than = left_out(known, shown), compared_with(verdicts)
    name, caption = "forest.png", f"Difference of each row's final loss to {than}, with its interval"
    if not shown:
        return Plot(name, caption, None)
    noise = verdicts.noise if verdicts.noise > 0 else 0.0
    axis, places = f"final loss minus {than}, nats per token", 3 if noise > 0.003 else 4
    measure = Measure(axis, noise, verdicts.baseline.learned, lambda loss: fixed(loss, places, signed=True), 1e-4)
    rows = {row.label: row for row in verdicts}
    entries = [
        Entry(row, row.comparison, row.verdict, row.words, row.why, row.final - rows[row.control].final)
        for row in shown
    ]
    figure = forest_of(entries, measure, headline(verdicts), verdicts, note)
    if verdicts.gains and verdicts.gains.rungs:
        _write_gains(figure.axes[0], verdicts.gains.rungs)
    return Plot(name, caption, figure, note)


def _write_gains(axes: Axes, rungs: Rungs) -> None:
    """A second scale within the axes: what a difference is worth in tokens, as far as the rungs reach."""
    low, high = axes.get_xlim()
    reached = [gain for gain in GAIN_TICKS if rungs.logs[0] - 1e-9 <= math.log(gain) <= rungs.logs[-1] + 1e-9]
    places = {gain: rungs.rise(math.log(gain)) for gain in reached}
    ticks: list[float] = []
    for gain, place in places.items():
        apart = all(abs(place - places[tick]) > 0.07 * (high - low) for tick in ticks)
        if low <= place <= high and apart:
            ticks.append(gain)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom + 0.8, top)  # a line of its own
    worth = axes.secondary_xaxis("bottom")
    worth.set_zorder(3)  # above the band
    worth.set_xticks([places[gain] for gain in ticks], [f"{gain:g}×" for gain in ticks])
    worth.tick_params(direction="in", pad=-13, labelsize=7.5, colors=GREY)
    worth.spines["bottom"].set_visible(False)
    axes.annotate(
        "tokens", (1.0, 0.0), (4, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7.5, color=GREY
    )


def compared_with(verdicts: Verdicts) -> str:
    """Whose number a difference is to."""
    return "that of the row it is compared with" if verdicts.against else "the baseline's"


def forest_of(entries: Sequence[Entry], measure: Measure, title: str, verdicts: Verdicts, note: str = "") -> Figure:
    """The entries as lines with their intervals, under a `title`; a `note` below says what is left out."""
    lines = _with_headings(entries, verdicts)
    labels = {entry.row.label: _label(entry.row, verdicts) for entry in entries}
    left, foot = max(2.4, 0.35 + 0.078 * max(map(len, labels.values()))), 0.75 if note else 0.5
    width, height = left + ACROSS + 3.4, 1.0 + foot + 0.25 * len(lines)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, foot / height, ACROSS / width, 1 - (0.85 + foot) / height))
    compared = [entry.comparison for entry in entries]
    edges = [edge for found in compared for edge in (found.delta, found.low, found.high)]
    noise = measure.noise
    low, high = drawing.robust_limits(edges, max(2.5 * noise, measure.least))
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvspan(-noise, noise, color=PALE, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.9)
    sides, outside = axes.get_yaxis_transform(), 0.15 - left
    for y, line in enumerate(lines):
        if isinstance(line, str):
            axes.text(outside / ACROSS, y, line, transform=sides, weight="bold", va="center", clip_on=False)
            continue
        _forest_line(axes, y, line, measure)
        axes.text(-0.03, y, labels[line.row.label], transform=sides, va="center", ha="right", clip_on=False)
        text = _forest_text(line, measure.shown)
        axes.text(1.03, y, text, transform=sides, va="center", fontsize=8, clip_on=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(measure.directions)
    drawing.write_note(axes, note)
    title = textwrap.fill(drawable(title), int(width * 11))
    figure.suptitle(title, x=0.012, y=1 - 0.12 / height, ha="left", va="top", fontsize=11)
    handles: list[Artist] = [
        _handle(verdict, measure)
        for verdict in (BETTER, SAME, UNDECIDED, WORSE, AT_CHANCE, NO_VERDICT, HAS_DIVERGED, ABOVE_CHANCE)
        if any(entry.verdict == verdict for entry in entries)
    ]
    handles.append(Line2D([], [], color=GREY, marker="|", linestyle="", markersize=6, label="one seed"))
    if any(edge < axes.get_xlim()[0] or edge > axes.get_xlim()[1] for edge in edges):
        handles.append(
            Line2D([], [], color=GREY, marker=">", linestyle="-", markersize=5, label="continues beyond the scale")
        )
    if noise:
        handles.append(Patch(color=PALE, label=f"noise floor: ± sd of the baseline, {counted(measure.runs, 'seed')}"))
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(outside / ACROSS - 0.015, 1.0),
        ncols=len(handles),
        columnspacing=1.2,
        handletextpad=0.4,
        borderaxespad=0.2,
    )
    return figure


def _label(row: Row, verdicts: Verdicts) -> str:
    against = f", against {row.control}" if row.control != verdicts.baseline.label else ""
    return drawing.label(row.label + against, 60)


def _forest_line(axes: Axes, y: int, entry: Entry, measure: Measure) -> None:
    colour, marker = measure.look(entry.verdict)
    low, high = axes.get_xlim()
    comparison, seeds = entry.comparison, entry.seeds
    delta = comparison.delta
    axes.plot(seeds, np.full(len(seeds), y + 0.24), linestyle="", marker="|", markersize=4, color=colour, alpha=0.6)
    if math.isfinite(comparison.low):
        axes.plot([max(comparison.low, low), min(comparison.high, high)], [y, y], color=colour, linewidth=1.6)
        for is_beyond, edge, arrow in ((comparison.low < low, low, "<"), (comparison.high > high, high, ">")):
            if is_beyond and low <= delta <= high:
                axes.plot(edge, y, marker=arrow, color=colour, markersize=5, clip_on=False)
    if low <= delta <= high:
        axes.plot(delta, y, marker=marker, color=colour, markersize=6)
    else:
        edge, arrow = (high, ">") if delta > high else (low, "<")
        axes.plot(edge, y, marker=arrow, color=colour, markersize=7, clip_on=False)


def _forest_text(entry: Entry, shown: Callable[[float], str]) -> str:
    comparison = entry.comparison
    text = shown(comparison.delta)
    if math.isfinite(comparison.low):
        text += f"  [{shown(comparison.low)}, {shown(comparison.high)}]"
    text += f"  n={comparison.seeds}  {entry.words}"
    remarks = [entry.why] * bool(entry.why) + ["not counted"] * (not entry.row.is_change)
    return ", ".join([text, *remarks])


def _handle(verdict: str, measure: Measure) -> Line2D:
    colour, marker = measure.look(verdict)
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        linestyle="-" if verdict in (BETTER, WORSE, UNDECIDED, SAME, AT_CHANCE) else "",
        label=verdict,
    )


def _with_headings(entries: Sequence[Entry], verdicts: Verdicts) -> list[Entry | str]:
    if len(verdicts.sections) == 1:
        return list(entries)
    lines: list[Entry | str] = []
    for before, entry in zip([None, *entries], entries, strict=False):
        if before is None or before.row.section != entry.row.section:
            lines.append(drawing.label(entry.row.section))
        lines.append(entry)
    return lines
