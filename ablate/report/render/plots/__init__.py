"""The plots of a report, each a PNG that states what it shows, in which unit, over how many runs."""

from __future__ import annotations

from pathlib import Path

from ablate.report.analysis.agreement import Agreement
from ablate.report.analysis.agreement_over_training import AgreementOverTraining
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.render.plots import drawing
from ablate.report.render.plots.agreement_over_training import agreement_over_training
from ablate.report.render.plots.costs import costs
from ablate.report.render.plots.curves import curves
from ablate.report.render.plots.forest import forest
from ablate.report.render.plots.gradient_norm import gradient_norm
from ablate.report.render.plots.heatmap import heatmap
from ablate.report.render.plots.published import published
from ablate.report.render.plots.score_curves import all_score_curves


def draw(
    results: Results,
    verdicts: Verdicts,
    agreements: list[Agreement],
    over_training: AgreementOverTraining | None,
    title: str,
    folder: Path,
) -> list[tuple[str, str]]:
    """Draw every plot that has data; returns (file name, caption) in the order of the report.

    `title` names the published table that `agreements` and `over_training` are about.
    """
    plots = []
    metrics = [metric.name for metric in verdicts.metrics.values()]
    with drawing.style([str(results.sweep), title, *metrics, *(x for one in agreements for x in one.labels)]):
        for name, caption, figure in (
            forest(verdicts),
            *curves(results, verdicts),
            gradient_norm(results, verdicts),
            *all_score_curves(results, verdicts),
            costs(verdicts),
            published(agreements, title, {row.label: row.section for row in verdicts}),
            agreement_over_training(over_training, title),
            heatmap(verdicts),
        ):
            if figure is not None:
                drawing.save(figure, folder / name)
                plots.append((name, caption))
    return plots
