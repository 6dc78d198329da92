"""The curves of a score, by something else than the step, of every row that has some."""

from __future__ import annotations

from dataclasses import dataclass, field

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.results import Results


@dataclass(frozen=True)
class ScoreCurves:
    """The curves of the score `name`: of each row by seed, the name of their x, what chance scores, and why the curve
    of a row ends before others do, where its runs say so."""

    name: str
    rows: dict[str, Curves]
    x: str = ""
    unit: str = ""
    chance: float | None = None
    ended: dict[str, str] = field(default_factory=dict)

    @property
    def last(self) -> float:
        """The largest x of any curve."""
        return max(x for curves in self.rows.values() for points in curves.done.values() for x in points)

    def early_ends(self) -> dict[str, float]:
        """Where the curves of a row end, for rows whose curves end before those of others."""
        ends = {row: max(x for points in curves.done.values() for x in points) for row, curves in self.rows.items()}
        return {row: end for row, end in ends.items() if end < self.last}


def score_curves(results: Results, name: str) -> ScoreCurves | None:
    """The curves of a score; None where no run has one."""
    rows = {row: Curves(curves.done, {}) for row, curves in Curves.by_row(results, name).items() if curves.done}
    if not rows:
        return None
    scores = {record["row"]: score for record in results.records if (score := (record.get("scores") or {}).get(name))}
    with_curve = [score for score in scores.values() if score.get("curve")]
    first = with_curve[0] if with_curve else {}
    ended = {row: str(reason) for row, score in scores.items() if (reason := (score.get("source") or {}).get("ended"))}
    x = str((first.get("curve") or {}).get("x", ""))
    return ScoreCurves(name, rows, x, str(first.get("unit", "")), first.get("chance"), ended)
