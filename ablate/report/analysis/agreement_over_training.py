"""Whether the order of our rows comes closer to the published one as training goes on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ablate.report.analysis.contrasts import compared_as, control_there, join, published_differences
from ablate.report.analysis.curves import Curves
from ablate.report.analysis.reference import LOSSES, Published
from ablate.report.analysis.results import Results
from ablate.report.analysis.verdicts import Verdicts
from ablate.statistics.ranks import rank_correlations

PARTS = 10  # equal parts of the steps
OWN = "our own final_loss"


@dataclass(frozen=True)
class AgreementOverTraining:
    """Spearman correlations of our rows' training losses with a reference, for each tenth of the steps.

    `steps` holds the last step of each tenth; `spearman` maps each reference (a published column, or our own final
    held-out losses) to one correlation per tenth. All are of differences to the baseline on the same batches, averaged
    over seeds; `rows` is the number of rows behind them.
    """

    rows: int
    steps: list[int]
    spearman: dict[str, list[float]]


def agreement_over_training(results: Results, verdicts: Verdicts, published: Published) -> AgreementOverTraining | None:
    """How the order develops over the rows of the published table that have curves; None for fewer than 5 rows."""
    known = defaultdict(lambda: Curves({}, {}), Curves.by_row(results))
    base = known[verdicts.baseline.label]
    if not base.done:
        return None
    edges = np.linspace(0, base.last, PARTS + 1)
    joined, gaps = [], []  # gaps (rows, PARTS): mean training loss minus the baseline's
    for row, label in join(verdicts, published):
        has_control = control_there(verdicts, published, row)
        control = known[row.control] if has_control else base
        steps, _, gap, _ = known[row.label].minus(control).after(0)
        parts = [gap[(low < steps) & (steps <= high)] for low, high in pairwise(edges)]
        if all(map(len, parts)):
            joined.append((row, label))
            gaps.append([part.mean() for part in parts])
    against = {column: published_differences(verdicts, published, joined, column) for column in LOSSES}
    against[OWN] = np.array([compared_as(verdicts, published, row, "final_loss").delta for row, _ in joined])
    found = {name: [_spearman(part, values) for part in np.transpose(gaps)] for name, values in against.items()}
    found = {name: figures for name, figures in found.items() if np.isfinite(figures).all() and figures}
    if not set(found) - {OWN}:
        return None
    return AgreementOverTraining(len(joined), [round(edge) for edge in edges[1:]], found)


def _spearman(ours: np.ndarray, theirs: np.ndarray) -> float:
    known = np.isfinite(ours + theirs)
    return rank_correlations(ours[known], theirs[known])[0]
