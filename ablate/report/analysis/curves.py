"""Curves of a row, such as its training losses: by seed and step, and beside the baseline's on the same batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.report.analysis.results import Results
from ablate.run.record import DIVERGED, DONE


@dataclass(frozen=True)
class Curves:
    """Curves of one row by seed, then step (or another x): of runs that are done, and of runs that diverged."""

    done: dict[int, dict[float, float]]
    diverged: dict[int, dict[float, float]]

    @classmethod
    def by_row(cls, results: Results, kind: str = "train") -> dict[str, Curves]:
        """The curves of one kind of curves.csv, of every row that has some, by its label."""
        status = {(record["row"], record["seed"]): record["status"] for record in results.records}
        found: dict[str, Curves] = {}
        for (row, seed, other), points in results.curves.items():
            state = status.get((row, seed))
            if other == kind and points and state in (DONE, DIVERGED):
                curves = found.setdefault(row, cls({}, {}))
                (curves.done if state == DONE else curves.diverged)[seed] = dict(points)
        return found

    @property
    def last(self) -> int:
        """The last step of a run that is done."""
        return int(max(step for points in self.done.values() for step in points))

    def minus(self, base: Curves) -> Curves:
        """The difference, seed by seed and step by step, where both are known."""

        def less(seeds: dict[int, dict[float, float]]) -> dict[int, dict[float, float]]:
            both = {seed: points for seed, points in seeds.items() if seed in base.done}
            return {
                s: {at: loss - base.done[s][at] for at, loss in points.items() if at in base.done[s]}
                for s, points in both.items()
            }

        return Curves(less(self.done), less(self.diverged))

    def after(self, first: float) -> np.ndarray:
        """(4, n): step, lowest, mean and highest loss over the finished seeds, at the steps that all of them have."""
        shared = sorted(set.intersection(*map(set, self.done.values()))) if self.done else []
        steps = [step for step in shared if step >= first]
        if not steps:
            return np.empty((4, 0))
        values = np.array([[points[step] for step in steps] for points in self.done.values()])
        return np.array([steps, values.min(0), values.mean(0), values.max(0)])
