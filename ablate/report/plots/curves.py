"""Loss over training, in small panels, and its distance from the baseline's on the same batches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.record import DIVERGED, DONE
from ablate.report.plots import drawing
from ablate.report.plots.drawing import INK, LINES, Plot
from ablate.report.results import Results
from ablate.report.text import shortened
from ablate.report.verdicts import NOT_COMPARABLE, Row, Verdicts

LINES_A_PANEL = 6
FIRST_PART = 0.2  # of the steps, left out of the loss curves: they fall too far to see the rest
GAP_PART = 0.4  # of the steps, left out when the scale of the gaps is chosen
CURVE_CAPTION = "Training loss of each row and of the baseline (black)"
GAP_CAPTION = "Training loss minus the baseline's on the same batches: whether a difference grows or fades"


def curves(results: Results, verdicts: Verdicts) -> list[Plot]:
    """Training loss, and its distance from the baseline's on the same batches, in panels of at most six rows."""
    base = _Curves.of(results, verdicts.baseline.label)
    panels = _panels(results, verdicts)
    if not panels or not base.done:
        return []
    name = shortened(verdicts.baseline.label, 24)
    rows = [(row, _Curves.of(results, row.label)) for _, members in panels for row in members]
    gaps = [curves.minus(base) for _, curves in rows]
    last = base.last
    reach = drawing.robust_limits([edge for gap in gaps for edge in gap.after(GAP_PART * last)[1:].flat], 1e-4)
    middle = base.after(FIRST_PART * last)[2]
    drawn = []
    for is_gap in (False, True):
        figure = Figure(figsize=(0.6 + 5.2 * min(2, len(panels)), 0.95 + 2.45 * math.ceil(len(panels) / 2)))
        limits = (
            reach if is_gap else (float(middle.min()) + min(0.0, reach[0]), float(middle.max()) + max(0.0, reach[1]))
        )
        margin = 0.05 * (limits[1] - limits[0])
        for number, (title, members) in enumerate(panels):
            axes = _place(figure, number)
            axes.set_xlim(FIRST_PART * last, last)
            axes.set_ylim(limits[0] - margin, limits[1] + margin)
            lines = [] if is_gap else [(name, base, INK)]
            for row, colour in zip(members, LINES, strict=False):
                curves = _Curves.of(results, row.label)
                lines.append((shortened(row.label, 26), curves.minus(base) if is_gap else curves, colour))
            _draw_lines(axes, lines)
            if is_gap:
                axes.axhline(0, color=INK, linewidth=1.0)
            axes.set_title(title, weight="bold")
            axes.set_ylabel("gap, nats per token" if is_gap else "loss, nats per token")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.locator_params(axis="x", nbins=5)
            axes.set_xlabel("step")
        head = f"Training loss minus that of {name} on the same batches" if is_gap else "Training loss"
        tail = "below 0 is better" if is_gap else f"the first {FIRST_PART:.0%} of the steps are left out"
        if any(curves.diverged for _, curves in rows):
            tail += "; dashed, to a cross: a run that diverged"
        title = f"{head}: mean over seeds, band from the lowest to the highest;\n{tail}; one scale for all panels"
        figure.suptitle(title, x=0.012, ha="left", fontsize=9.5, y=1 - 0.08 / figure.get_figheight(), va="top")
        caption = GAP_CAPTION if is_gap else CURVE_CAPTION
        drawn.append(("loss_gap.png" if is_gap else "loss_curves.png", caption, figure))
    return drawn


def _panels(results: Results, verdicts: Verdicts) -> list[tuple[str, list[Row]]]:
    """(title, rows): the rows of each section that have curves, from the best to the worst, a few at a time."""
    panels = []
    for section in verdicts.sections:
        members = [row for row in verdicts.ordered() if row.section == section and row.verdict != NOT_COMPARABLE]
        members = [row for row in members if _Curves.of(results, row.label).any]
        parts = math.ceil(len(members) / LINES_A_PANEL)
        for part in range(parts):
            name = shortened(section) if len(verdicts.sections) > 1 else "rows from the best to the worst"
            title = f"{name} ({part + 1} of {parts})" if parts > 1 else name
            panels.append((title, members[part * len(members) // parts : (part + 1) * len(members) // parts]))
    return panels


def _place(figure: Figure, number: int) -> Axes:
    """The axes of a panel, two in a line, with room for names at the right of each; measured in inches."""
    width, height = figure.get_size_inches()
    left, top = 0.6 + 5.2 * (number % 2), 0.85 + 2.45 * (number // 2)
    return figure.add_axes((left / width, 1 - (top + 1.75) / height, 3.1 / width, 1.75 / height))


@dataclass(frozen=True)
class _Curves:
    """Training losses of one row by seed, then step: of runs that are done, and of runs that diverged."""

    done: dict[int, dict[int, float]]
    diverged: dict[int, dict[int, float]]

    @classmethod
    def of(cls, results: Results, label: str) -> _Curves:
        """The curves of the row `label`."""
        status = {record["seed"]: record["status"] for record in results.records if record["row"] == label}
        seeds = {
            s: dict(points) for (row, s, kind), points in results.curves.items() if row == label and kind == "train"
        }
        chosen = [{s: points for s, points in seeds.items() if status.get(s) == wanted} for wanted in (DONE, DIVERGED)]
        return cls(*chosen)

    @property
    def any(self) -> bool:
        """Whether there is a curve at all."""
        return bool(self.done or self.diverged)

    @property
    def last(self) -> int:
        """The last step of a run that is done."""
        return max(step for points in self.done.values() for step in points)

    def minus(self, base: _Curves) -> _Curves:
        """The difference, seed by seed and step by step, where both are known."""

        def less(seeds: dict[int, dict[int, float]]) -> dict[int, dict[int, float]]:
            both = {seed: points for seed, points in seeds.items() if seed in base.done}
            return {
                s: {at: loss - base.done[s][at] for at, loss in points.items() if at in base.done[s]}
                for s, points in both.items()
            }

        return _Curves(less(self.done), less(self.diverged))

    def after(self, first: float) -> np.ndarray:
        """(4, n): step, lowest, mean and highest loss over the finished seeds, at the steps that all of them have."""
        shared = sorted(set.intersection(*map(set, self.done.values()))) if self.done else []
        steps = [step for step in shared if step >= first]
        values = np.array([[points[step] for step in steps] for points in self.done.values()]).reshape(-1, len(steps))
        return np.array([steps, values.min(0), values.mean(0), values.max(0)]) if steps else np.empty((4, 0))


def _draw_lines(axes: Axes, lines: list[tuple[str, _Curves, str]]) -> None:
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
