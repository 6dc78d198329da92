"""Shares of operations and of run time by class of work, beside the published ones."""

from __future__ import annotations

from matplotlib.figure import Figure

from ablate.report.analysis.step_profile import Profile
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import BLUE, ORANGE, VERMILLION, Plot
from ablate.training.work import COMPUTING, PUBLISHED

FILE = "shares.png"
COLOURS = dict(zip(COMPUTING, (BLUE, VERMILLION, ORANGE), strict=True))


def shares(profile: Profile) -> Plot:
    """Two bars for each variant and for the published table: its operations, and its time."""
    bars: list[tuple[str, list[float]]] = []
    for variant in profile.variants:
        name = drawing.label(variant.label)
        bars.append((f"{name}: operations", [variant.operation_share(kind) for kind in COMPUTING]))
        bars.append((f"{name}: run time", [variant.time_share(kind) for kind in COMPUTING]))
    for column, what in enumerate(("operations", "run time")):
        bars.append((f"Ivanov et al. 2021: {what}", [PUBLISHED[kind][column] for kind in COMPUTING]))
    figure = Figure(figsize=(7.2, 0.42 * len(bars) + 1.3))
    axes = figure.subplots()
    begun = [0.0] * len(bars)
    places = [-(number + 0.35 * (number // 2)) for number in range(len(bars))]
    for index, kind in enumerate(COMPUTING):
        widths = [100 * values[index] for _, values in bars]
        axes.barh(places, widths, 0.8, left=begun, color=COLOURS[kind], label=kind)
        for place, left, width in zip(places, begun, widths, strict=True):
            if width > 6:
                axes.text(left + width / 2, place, f"{width:.1f}", ha="center", va="center", color="white")
        begun = [left + width for left, width in zip(begun, widths, strict=True)]
    axes.set_yticks(places, [name for name, _ in bars])
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the three classes that compute, forward and backward")
    axes.grid(visible=False, axis="y")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(COMPUTING))
    return Plot(FILE, "Shares of operations and of run time by class of work", figure)
