"""The plots of a report. Each is a PNG that can be read without the text around it: what, in which unit, over how many runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ablate.record import DIVERGED, DONE
from ablate.report import drawing
from ablate.report.drawing import BLUE, GREY, INK, LINES, LOOKS, PALE, VERMILLION, style
from ablate.report.reference import Agreement
from ablate.report.results import Results
from ablate.report.text import counted, fixed, percent, scaled, shortened
from ablate.report.verdicts import (
    BASELINE,
    BETTER,
    HAS_DIVERGED,
    NO_VERDICT,
    NOT_COMPARABLE,
    UNDECIDED,
    WORSE,
    Row,
    Verdicts,
    comparable_speeds,
    mean,
    spread,
)

LINES_A_PANEL = 6
FIRST_PART = 0.2  # of the steps, left out of the loss curves: they fall too far to see the rest
GAP_PART = 0.4  # of the steps, left out when the scale of the gaps is chosen
CURVE_CAPTION = "Training loss of each row and of the baseline (black)"
GAP_CAPTION = "Training loss minus the baseline's on the same batches: whether a difference grows or fades"
SAME_COST = 0.01  # rows whose costs differ by less all cost the same


def draw(results: Results, verdicts: Verdicts, agreements: list[Agreement], title: str, folder: Path) -> list[tuple[str, str]]:
    """Draw what there is something to draw of; returns (file name, caption) in the order of the report."""
    plots = []
    with style():
        for name, caption, figure in (
            _forest(verdicts),
            *_curves(results, verdicts),
            _costs(verdicts),
            _published(agreements, title),
            _heatmap(verdicts),
        ):
            if figure is not None:
                drawing.save(figure, folder / name)
                plots.append((name, caption))
    return plots


Plot = tuple[str, str, Figure | None]


# -- differences ------------------------------------------------------------------------------------------------------


def _forest(verdicts: Verdicts) -> Plot:
    """Difference to the baseline with interval, by section; the strip is the baseline's own spread."""
    shown = [row for row in ordered(verdicts) if math.isfinite(row.comparison.delta)]
    name, caption = "forest.png", "Difference of each row's final loss to the baseline's, with its interval"
    if not shown:
        return name, caption, None
    lines = _with_headings(shown, verdicts)
    figure = Figure(figsize=(10.5, 1.5 + 0.25 * len(lines)))
    axes = figure.add_axes((0.27, 0.5 / figure.get_figheight(), 0.43, 1 - 1.35 / figure.get_figheight()))
    edges = [edge for row in shown for edge in (row.comparison.delta, row.comparison.low, row.comparison.high)]
    noise = verdicts.noise if verdicts.noise > 0 else 0.0
    low, high = drawing.robust_limits(edges, max(2.5 * noise, 1e-4))
    margin = 0.06 * (high - low)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvspan(-noise, noise, color=PALE, linewidth=0)
    axes.axvline(0, color=INK, linewidth=0.9)
    places = 3 if noise > 0.003 else 4
    sides = axes.get_yaxis_transform()
    for y, line in enumerate(lines):
        if isinstance(line, str):
            axes.text(-0.61, y, line, transform=sides, weight="bold", va="center", clip_on=False)
            continue
        _forest_line(axes, y, line, verdicts.baseline)
        axes.text(-0.03, y, shortened(line.label, 44), transform=sides, va="center", ha="right", clip_on=False)
        axes.text(1.03, y, _forest_text(line, places), transform=sides, va="center", fontsize=8, clip_on=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("final loss minus the baseline's, nats per token     ← better · worse →")
    runs = int(np.isfinite(verdicts.baseline.final).sum())
    figure.suptitle(headline(verdicts), x=0.012, y=1 - 0.12 / figure.get_figheight(), ha="left", va="top", fontsize=11)
    handles = [_handle(verdict) for verdict in (BETTER, UNDECIDED, WORSE, NO_VERDICT, HAS_DIVERGED) if any(row.verdict == verdict for row in shown)]
    handles.append(Line2D([], [], color=GREY, marker="|", linestyle="", markersize=6, label="one seed"))
    if noise:
        handles.append(Patch(color=PALE, label=f"noise floor: ± sd of the baseline, {counted(runs, 'seed')}"))
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.625, 1.0), ncols=len(handles), columnspacing=1.2, handletextpad=0.4, borderaxespad=0.2)
    return name, caption, figure


def _forest_line(axes: Axes, y: int, row: Row, baseline: Row) -> None:
    colour, marker = LOOKS[row.verdict]
    low, high = axes.get_xlim()
    delta = row.comparison.delta
    seeds = row.final - baseline.final
    axes.plot(seeds, np.full(len(seeds), y + 0.24), linestyle="", marker="|", markersize=4, color=colour, alpha=0.6)
    if math.isfinite(row.comparison.low):
        axes.plot([max(row.comparison.low, low), min(row.comparison.high, high)], [y, y], color=colour, linewidth=1.6)
    if low <= delta <= high:
        axes.plot(delta, y, marker=marker, color=colour, markersize=6)
    else:
        edge, arrow = (high, ">") if delta > high else (low, "<")
        axes.plot(edge, y, marker=arrow, color=colour, markersize=7, clip_on=False)


def _forest_text(row: Row, places: int) -> str:
    comparison = row.comparison
    text = fixed(comparison.delta, places, signed=True)
    if math.isfinite(comparison.low):
        text += f"  [{fixed(comparison.low, places, signed=True)}, {fixed(comparison.high, places, signed=True)}]"
    text += f"  n={comparison.seeds}"
    return f"{text}  {row.verdict}, {row.why}" if row.verdict in (HAS_DIVERGED, NO_VERDICT) else f"{text}  {row.verdict}"


def _handle(verdict: str) -> Line2D:
    colour, marker = LOOKS[verdict]
    return Line2D([], [], color=colour, marker=marker, linestyle="-" if verdict in (BETTER, WORSE, UNDECIDED) else "", label=verdict)


def headline(verdicts: Verdicts) -> str:
    """What the sweep found, in a line."""
    rows = [row for row in verdicts.rows if not row.is_control]
    better, worse, undecided = (len(verdicts.of(word)) for word in (BETTER, WORSE, UNDECIDED))
    rest = len(rows) - better - worse - undecided
    base = shortened(verdicts.baseline.label)
    text = f"Of {counted(len(rows), 'change')} to {base}, {better} better, {worse} worse, {undecided} with no difference detected"
    return f"{text}, {rest} without a verdict" if rest else text


def ordered(verdicts: Verdicts) -> list[Row]:
    """The rows by section, the best first within each, those without a difference last."""
    found: list[Row] = []
    for section in verdicts.sections:
        members = [row for row in verdicts.rows if row.section == section]
        found += sorted(members, key=lambda row: (math.isnan(row.comparison.delta), row.comparison.delta if math.isfinite(row.comparison.delta) else 0.0))
    return found


def _with_headings(rows: list[Row], verdicts: Verdicts) -> list[Row | str]:
    if len(verdicts.sections) == 1:
        return list(rows)
    lines: list[Row | str] = []
    for row in rows:
        if not lines or row.section != section:
            section = row.section
            lines.append(shortened(section))
        lines.append(row)
    return lines


# -- curves -----------------------------------------------------------------------------------------------------------


def _curves(results: Results, verdicts: Verdicts) -> list[Plot]:
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
        limits = reach if is_gap else (float(middle.min()) + min(0.0, reach[0]), float(middle.max()) + max(0.0, reach[1]))
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
        title = f"{head}: mean over seeds, band from the lowest to the highest;\n{tail}; one scale for all panels; dashed, to a cross: a run that diverged"
        figure.suptitle(title, x=0.012, ha="left", fontsize=9.5, y=1 - 0.08 / figure.get_figheight(), va="top")
        caption = GAP_CAPTION if is_gap else CURVE_CAPTION
        drawn.append(("loss_gap.png" if is_gap else "loss_curves.png", caption, figure))
    return drawn


def _panels(results: Results, verdicts: Verdicts) -> list[tuple[str, list[Row]]]:
    """(title, rows): the rows of each section that have curves, from the best to the worst, a few at a time."""
    panels = []
    for section in verdicts.sections:
        members = [row for row in ordered(verdicts) if row.section == section and row.verdict != NOT_COMPARABLE]
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
        seeds = {s: dict(points) for (row, s, kind), points in results.curves.items() if row == label and kind == "train"}
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
            return {s: {at: loss - base.done[s][at] for at, loss in points.items() if at in base.done[s]} for s, points in both.items()}

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


# -- costs ------------------------------------------------------------------------------------------------------------


def _costs(verdicts: Verdicts) -> Plot:
    """Final loss against speed and against FLOPs, with the front of rows that nothing beats in both."""
    name, caption = "loss_vs_cost.png", "Final loss against speed and against FLOPs a step"
    speeds = comparable_speeds(verdicts)
    alone = " with nothing else running" if verdicts.baseline.is_exclusive else " during training"
    sides = [
        (f"steps per second{alone}", "faster →", speeds, -1),
        ("FLOPs per step", "← cheaper", {row.label: row.flops_per_step for row in verdicts}, 1),
    ]
    rows = [row for row in verdicts if row.verdict != NOT_COMPARABLE and math.isfinite(mean(row.final))]
    drawn = [side for side in sides if _varies([side[2][row.label] for row in rows])]
    if not drawn or len(rows) < 2:
        return name, caption, None
    figure = Figure(figsize=(6.6 * len(drawn), 5.4))
    grid = figure.subplots(1, len(drawn), squeeze=False)[0]
    figure.subplots_adjust(left=0.065 * 2 / len(drawn), right=0.985, top=0.84, bottom=0.1, wspace=0.16)
    base = mean(verdicts.baseline.final)
    differences = [mean(row.final) - base for row in rows]
    low, high = drawing.robust_limits(differences, 3 * verdicts.noise if verdicts.noise > 0 else 1e-3)
    margin = 0.09 * (high - low)
    for axes, (what, direction, costs, sign) in zip(grid, drawn, strict=True):
        members = [row for row in rows if math.isfinite(costs[row.label])]
        axes.set_ylim(base + low - margin, base + high + margin)
        if verdicts.noise > 0:
            axes.axhspan(base - verdicts.noise, base + verdicts.noise, color=PALE, linewidth=0)
        values = [costs[row.label] for row in members]
        pad = 0.12 * (max(values) - min(values))
        axes.set_xlim(min(values) - pad, max(values) + pad)
        axes.axvline(costs[verdicts.baseline.label], color=PALE, linewidth=1, zorder=1)
        _front(axes, [(sign * costs[row.label], mean(row.final)) for row in members], sign)
        points = []
        for row in sorted(members, key=lambda row: (row.verdict != BASELINE, -abs(mean(row.final) - base))):
            colour, marker = LOOKS[row.verdict]
            y = mean(row.final)
            top = base + high + margin
            inside = y <= top
            axes.plot(costs[row.label], y if inside else top - 0.25 * margin, marker=marker if inside else "^", color=colour, markersize=11 if row.verdict == BASELINE else 6.5, linestyle="", markerfacecolor=colour if inside else "none")
            label = shortened(row.label, 30) if inside else f"{shortened(row.label, 30)} ({fixed(y, 2)}, off scale)"
            points.append((costs[row.label], y if inside else top - 0.25 * margin, label, colour if row.verdict in (BETTER, WORSE) else INK))
        axes.set_xlabel(f"{what}     {direction}")
        axes.xaxis.set_major_formatter(lambda value, _: scaled(value))
        left_out = drawing.label_points(axes, points)
        if left_out:
            axes.text(0.99, 0.01, f"{counted(len(left_out), 'row')} without room for a name: see the table", transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5, color=GREY)
    grid[0].set_ylabel("final loss, nats per token (lower is better)")
    figure.suptitle(f"Final loss (mean over seeds) against cost; star: {shortened(verdicts.baseline.label)}", x=0.012, y=0.985, ha="left", fontsize=11)
    words = [word for word in (BASELINE, BETTER, UNDECIDED, WORSE, NO_VERDICT, HAS_DIVERGED) if any(row.verdict == word for row in rows)]
    handles = [Line2D([], [], color=LOOKS[word][0], marker=LOOKS[word][1], linestyle="", label=word) for word in words]
    handles += [Line2D([], [], color=BLUE, linewidth=1, linestyle=":", label="nothing is better at this cost or less")]
    if verdicts.noise > 0:
        handles += [Patch(color=PALE, label="± sd of the baseline over its seeds")]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.005, 0.945), ncols=len(handles), columnspacing=1.2, handletextpad=0.3)
    return name, caption, figure


def _varies(values: list[float]) -> bool:
    known = [value for value in values if math.isfinite(value)]
    return len(known) > 1 and max(known) - min(known) > SAME_COST * abs(np.median(known))


def _front(axes: Axes, points: list[tuple[float, float]], sign: int) -> None:
    best, front = math.inf, []
    for cost, loss in sorted(points):
        if loss < best:
            best = loss
            front.append((sign * cost, loss))
    axes.plot(*zip(*front, strict=True), color=BLUE, linewidth=1, linestyle=":", zorder=1, drawstyle="steps-post")


# -- published --------------------------------------------------------------------------------------------------------


def _published(agreements: list[Agreement], title: str) -> Plot:
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
        axes.errorbar(x, y, yerr=np.nan_to_num(agreement.errors), fmt="o", color=INK, ecolor="#BBBBBB", elinewidth=1.2, markersize=5)
        drawing.label_points(axes, [(x[i], y[i], shortened(agreement.labels[i], 30), INK) for i in np.argsort(-np.abs(y), kind="stable")])
        which = agreement.column.replace("_", " ")
        axes.set_title(f"{which}: Spearman {fixed(agreement.spearman, 2)}, Kendall {fixed(agreement.kendall, 2)}, same sign {agreement.equal_signs} of {agreement.signs}")
        axes.set_xlabel(f"published: {which} minus its baseline's, nats per token")
        axes.set_ylabel(f"ours: {which} minus our baseline's, nats per token")
    figure.suptitle(f"Ours against {title}: {counted(len(agreements[0].labels), 'row')}, bars ± one standard error over our seeds; shaded: same sign. The scales differ.", x=0.012, y=0.975, ha="left", fontsize=10)
    return name, caption, figure


# -- metrics ----------------------------------------------------------------------------------------------------------


def _heatmap(verdicts: Verdicts) -> Plot:
    """Each metric's difference to the baseline in units of the baseline's sd over seeds; blue is better."""
    name, caption = "heatmap.png", "Every metric's difference to the baseline, in sd of the baseline over its seeds"
    base = verdicts.baseline
    tasks = sorted({task for row in verdicts for task in row.downstream})
    metrics = ["early loss", "final loss", *tasks]
    scales = [spread(base.early), spread(base.final), *(spread(base.downstream.get(task, [])) for task in tasks)]
    kept = [index for index, scale in enumerate(scales) if scale > 0]
    rows = [row for row in ordered(verdicts) if row.verdict != NOT_COMPARABLE and row.done]
    if not kept or not rows:
        return name, caption, None
    table = np.array([[_sds(row, base, metrics[index]) / scales[index] for index in kept] for row in rows])
    worse = table * np.where(np.array(kept) < 2, 1, -1)  # of losses the larger is worse, of scores the smaller
    labels = [shortened(row.label, 40) for row in rows]
    left, wide, tall = 0.35 + 0.075 * max(map(len, labels)), 0.95 * len(kept), 0.25 * len(rows)
    figure = Figure(figsize=(max(left + wide + 0.9, 4.6), tall + 1.15))
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left / width, 0.15 / height, wide / width, tall / height))
    limit = 6.0
    image = axes.imshow(worse, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.grid(False)
    axes.set_xticks(range(len(kept)), [shortened(metrics[index], 18) for index in kept])
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (y, x), value in np.ndenumerate(table):
        shade = "white" if abs(value) > 0.62 * limit else INK
        axes.text(x, y, fixed(value, 1 if abs(value) < 9.95 else 0, signed=True), ha="center", va="center", fontsize=8, color=shade)
    for y in [y for y in range(1, len(rows)) if rows[y].section != rows[y - 1].section]:
        axes.axhline(y - 0.5, color="white", linewidth=3)
    place = figure.add_axes(((left + wide + 0.2) / width, 0.15 / height, 0.13 / width, min(tall, 2.4) / height))
    bar = figure.colorbar(image, cax=place, extend="both")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    seeds = int(np.isfinite(base.final).sum())
    figure.suptitle(f"Difference to {shortened(base.label, 30)} in sd of its {counted(seeds, 'seed')}\nblue is better; the sign is as measured", x=0.012, y=1 - 0.08 / height, ha="left", va="top", fontsize=10)
    return name, caption, figure


def _sds(row: Row, base: Row, metric: str) -> float:
    """The difference of one metric to the baseline, over shared seeds where it is a loss."""
    if metric == "final loss":
        return row.comparison.delta
    if metric == "early loss":
        both = row.early - base.early
        return row.early_comparison.delta if math.isfinite(row.early_comparison.delta) else mean(both)
    return mean(row.downstream.get(metric, [])) - mean(base.downstream.get(metric, []))
