"""Whether the order of our rows nears the published one as training goes on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.agreement import join, published_differences
from ablate.report.analysis.curves import Curves
from ablate.report.analysis.reference import LOSSES, Published
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import Verdicts
from ablate.statistics.ranks import rank_correlations

PARTS = 10
OWN = "our own final_loss"


@dataclass(frozen=True)
class Course:
    """Spearman correlations of our rows' training losses with what they are held against, tenth by tenth of the steps.

    `steps` has the last step of each tenth; `spearman` a figure for each, by what it is against: a published column, or
    our own final held-out losses. All are of differences to the baseline on the same batches, the mean over seeds.
    """

    rows: int
    steps: list[int]
    spearman: dict[str, list[float]]


def course(results: Results, verdicts: Verdicts, published: Published) -> Course | None:
    """How the order develops, over at least 5 rows of the published table that have curves; None below."""
    base = Curves.of(results, verdicts.baseline.label)
    if not base.done:
        return None
    edges = np.linspace(0, base.last, PARTS + 1)
    labels, gaps = [], []
    for row, label in join(verdicts, published):
        steps, _, gap, _ = Curves.of(results, row.label).minus(base).after(0)
        parts = [gap[(low < steps) & (steps <= high)] for low, high in zip(edges, edges[1:], strict=False)]
        if all(map(len, parts)):
            labels.append((row, label))
            gaps.append([part.mean() for part in parts])
    against = {
        column: published_differences(verdicts, published, (label for _, label in labels), column) for column in LOSSES
    }
    against[OWN] = np.array([row.comparison.delta for row, _ in labels])
    found = {name: [_spearman(part, values) for part in np.transpose(gaps)] for name, values in against.items()}
    found = {name: figures for name, figures in found.items() if np.isfinite(figures).all() and figures}
    return Course(len(labels), [round(edge) for edge in edges[1:]], found) if set(found) - {OWN} else None


def _spearman(ours: np.ndarray, theirs: np.ndarray) -> float:
    known = np.isfinite(ours + theirs)
    return rank_correlations(ours[known], theirs[known])[0]
