"""The curves of a score, by something else than the step or by the step, of every row that has some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.report.analysis.curves import Curves
from ablate.report.analysis.curves_csv import kind_of_history
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
    scores = _by_row(results, name)
    ended = {row: str(reason) for row, score in scores.items() if (reason := (score.get("source") or {}).get("ended"))}
    return _found(results, name, name, "curve", scores, ended)


def score_history(results: Results, name: str) -> ScoreCurves | None:
    """A score by the step of training after which it was taken; None where it was taken at the end alone."""
    return _found(results, name, kind_of_history(name), "history", _by_row(results, name), {})


def with_history(results: Results, names: Iterable[str]) -> list[str]:
    """Those of these scores whose history is drawn: of an evaluation that has averages of tasks, they alone."""
    scores = {name: [*_by_row(results, name).values()] for name in names}
    found = {name: of[-1]["source"] for name, of in scores.items() if of and of[-1].get("source")}
    averaged = {source.get("evaluation") for source in found.values() if "mean_of" in source}
    return [name for name, source in found.items() if "mean_of" in source or source.get("evaluation") not in averaged]


def _by_row(results: Results, name: str) -> dict[str, Any]:
    """A score as the last seed of each row has it."""
    return {record["row"]: score for record in results.records if (score := (record.get("scores") or {}).get(name))}


def _found(
    results: Results, name: str, kind: str, key: str, scores: Mapping[str, Any], ended: dict[str, str]
) -> ScoreCurves | None:
    rows = {row: Curves(curves.done, {}) for row, curves in Curves.by_row(results, kind).items() if curves.done}
    if not rows:
        return None
    first: Mapping[str, Any] = next((score for score in scores.values() if score.get(key)), {})
    x = str((first.get(key) or {}).get("x", ""))
    return ScoreCurves(name, rows, x, str(first.get("unit", "")), first.get("chance"), ended)
