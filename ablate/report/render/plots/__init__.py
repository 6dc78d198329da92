"""The plots of a report, each a PNG and a PDF that states what it shows, in which unit, over how many runs."""

from __future__ import annotations

from pathlib import Path

from ablate.report.analysis.agreement import Agreement
from ablate.report.analysis.agreement_over_training import AgreementOverTraining
from ablate.report.analysis.header import SHOWN_FIRST
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.agreement_over_training import agreement_over_training
from ablate.report.render.plots.costs import costs
from ablate.report.render.plots.curves import curves
from ablate.report.render.plots.drawing import Plot
from ablate.report.render.plots.forest import forest
from ablate.report.render.plots.gradient_norm import gradient_norm
from ablate.report.render.plots.heatmap import heatmap
from ablate.report.render.plots.published import published
from ablate.report.render.plots.score_curves import all_score_curves
from ablate.report.render.plots.score_forest import score_forests
from ablate.report.render.plots.score_heatmap import score_heatmap
from ablate.report.render.plots.selection import Selection


def draw(
    results: Results,
    verdicts: Verdicts,
    agreements: list[Agreement],
    over_training: AgreementOverTraining | None,
    title: str,
    folder: Path,
) -> list[Plot]:
    """Draw every plot that has data; returns them in the order of the report, without their figures.

    `title` names the published table that `agreements` and `over_training` are about.
    """
    metrics = [text for metric in verdicts.metrics.values() for text in (metric.name, metric.unit)]
    selection = Selection.of(verdicts, results.sweep.get(SHOWN_FIRST, ()))
    made = (
        lambda: [forest(verdicts, selection)],
        lambda: curves(results, verdicts, selection),
        lambda: [gradient_norm(results, verdicts, selection)],
        lambda: all_score_curves(results, verdicts, selection),
        lambda: [costs(verdicts, selection)],
        lambda: [published(agreements, title, {row.label: row.section for row in verdicts}, selection)],
        lambda: [agreement_over_training(over_training, title)],
        lambda: [heatmap(verdicts, selection)],
        lambda: score_forests(verdicts, selection),
        lambda: [score_heatmap(verdicts, selection)],
    )
    drawn = []
    with drawing.style([str(results.sweep), title, *metrics, *(x for one in agreements for x in one.labels)]):
        for make in made:  # one after the other: a figure takes memory until it is saved
            for plot in make():
                if plot.figure is not None:
                    drawing.save(plot.figure, folder / plot.file)
                    drawn.append(plot._replace(figure=None))
    return drawn
