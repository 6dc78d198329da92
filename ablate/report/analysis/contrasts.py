"""Which of our differences stand beside which published ones: the same contrast on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablate.report.analysis.reference import Published
from ablate.report.analysis.verdicts import NOT_COMPARABLE, UNLEARNED, Row, Verdicts
from ablate.statistics.comparison import Comparison

LEFT_OUT = (NOT_COMPARABLE, *UNLEARNED)


def join(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    """Our rows that are in the table and have a difference to our baseline, each with its published label."""
    return [(row, label) for row, label in _named(verdicts, published) if _is_comparable(verdicts, published, row)]


def left_out(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    """Our rows that are in the table but diverged, cannot be compared, or have no run to compare."""
    return [(row, label) for row, label in _named(verdicts, published) if not _is_comparable(verdicts, published, row)]


def _is_comparable(verdicts: Verdicts, published: Published, row: Row) -> bool:
    known = np.isfinite(compared_as(verdicts, published, row, "final_loss").delta)
    return row.verdict not in LEFT_OUT and bool(known)


def _named(verdicts: Verdicts, published: Published) -> list[tuple[Row, str]]:
    base = base_of(verdicts, published)
    found = [(row, published.find(row.label)) for row in verdicts.rows]
    return [(row, label) for row, label in found if label and label != base]


def base_of(verdicts: Verdicts, published: Published) -> str:
    """The published row that our baseline corresponds to: the one of its label, else the table's own baseline."""
    return published.find(verdicts.baseline.label) or published.baseline


def control_there(verdicts: Verdicts, published: Published, row: Row) -> str | None:
    """The published row that corresponds to the control of `row`; None where the table lacks it."""
    return base_of(verdicts, published) if row.control == verdicts.baseline.label else published.find(row.control)


def compared_as(verdicts: Verdicts, published: Published, row: Row, column: str) -> Comparison:
    """Our comparison that the table has, too: with the row's control, or with the baseline where it lacks that."""
    is_final, has_control = column == "final_loss", control_there(verdicts, published, row)
    if has_control:
        return row.comparison if is_final else row.early_comparison
    return row.to_baseline if is_final else row.early_to_baseline


def published_differences(
    verdicts: Verdicts, published: Published, joined: Sequence[tuple[Row, str]], column: str
) -> np.ndarray:
    """Published differences (rows,) to what ours are to (`compared_as`), of our rows with their labels in the table.

    NaN where a number is absent.
    """
    base = base_of(verdicts, published)

    def loss(label: str) -> float:
        return published.rows[label].get(column, np.nan)

    return np.array([loss(label) - loss(control_there(verdicts, published, row) or base) for row, label in joined])
