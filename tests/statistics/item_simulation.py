"""Simulated tables of scores of a finite number of items, to measure how often the test is wrong, and finds.

`python -m tests.statistics.item_simulation [repetitions]` prints one line a case: the share of tables with a false
difference where no row differs over all possible items, the same without the items' part of the error, and the share
found of three rows that differ by four times what a single difference errs by.

Values are base[i] + item[row, i] + seed[s] + run[row, s] + residual[row, s, i]. All rows have the same mean over all
possible items: what a table of so many items shows of item[row] is chance.
"""

import sys
from dataclasses import dataclass

import numpy as np

from ablate.statistics import item_noise
from ablate.statistics.comparison import ALPHA, Comparison, compare

DIFFERING = 3


@dataclass(frozen=True)
class Case:
    """`rows` beside the baseline; standard deviations of the parts, those of an item in units of one item's value."""

    rows: int
    seeds: int
    items: int
    item: float  # what a row does with an item, in all its seeds
    run: float  # of one run, over all possible items
    residual: float = 1.0
    baseline_run: float = 1.0  # times `run`
    shares: bool = False  # whether values are 0 and 1, by a threshold
    alpha: float = ALPHA

    def values(self, rng: np.random.Generator) -> np.ndarray:
        """(rows + 1, seeds, items)."""
        shape = (self.rows + 1, self.seeds, self.items)
        runs = self.run * rng.normal(size=shape[:2])
        runs[0] *= self.baseline_run
        found = rng.normal(size=shape[2]) + runs[:, :, None] + self.run * rng.normal(size=self.seeds)[None, :, None]
        found = found + self.item * rng.normal(size=(shape[0], 1, shape[2])) + self.residual * rng.normal(size=shape)
        return np.where(found > 0, 1.0, 0.0) if self.shares else found

    @property
    def error(self) -> float:
        """The standard error of one difference, over seeds and items (of values that are no shares)."""
        return float(np.sqrt(2 * (self.item**2 / self.items + self.run**2 / self.seeds
                                  + self.residual**2 / self.items / self.seeds)))  # fmt: skip

    def compared(self, values: np.ndarray, with_items: bool = True) -> list[Comparison]:
        """The comparisons with the baseline, of the means over items."""
        noises = [item_noise.of_values(row - values[0]) for row in values[1:]]
        added, least = (np.sqrt([getattr(noise, part) for noise in noises]) for part in ("added", "alone"))
        given = {"item_error": added, "least_error": least} if with_items else {}
        return compare(values.mean(2), alpha=self.alpha, **given)


def rates(case: Case, repetitions: int) -> tuple[float, float, float]:
    """Share of tables with a false difference; the same without the items' part; share found of three rows."""
    alarms, without, found = [], [], []
    for repetition in range(repetitions):
        rng = np.random.default_rng([case.rows, case.seeds, case.items, repetition])
        values = case.values(rng)
        alarms.append(any(row.differs for row in case.compared(values)))
        without.append(any(row.differs for row in case.compared(values, with_items=False)))
        if not case.shares:
            values[1 : DIFFERING + 1] += 4 * case.error
            rows = case.compared(values)[:DIFFERING]
            found.append(np.mean([row.differs and row.delta > 0 for row in rows]))
    return float(np.mean(alarms)), float(np.mean(without)), float(np.mean(found)) if found else np.nan


LARGE, SMALL, NONE = 3.0, 0.5, 0.0  # sd of what a row does with an item
CASES = [
    *(
        Case(rows, seeds, items, item, run)
        for rows in (8, 20)
        for seeds in (3, 5)
        for items in (50, 400, 2000)
        for item, run in ((LARGE, 0.02), (SMALL, 0.05), (NONE, 0.1))
    ),
    *(Case(8, seeds, 400, LARGE, 0.001, residual=0.01) for seeds in (3, 5)),  # items are all the noise there is
    *(Case(8, seeds, 400, LARGE, 0.02, baseline_run=10.0) for seeds in (3, 5)),
    *(Case(20, seeds, 400, LARGE, 0.005, residual=0.1, baseline_run=10.0) for seeds in (3, 5)),
    Case(50, 8, 400, LARGE, 0.005, residual=0.1, baseline_run=10.0),
    *(Case(8, 3, items, 1.0, 0.05, shares=True) for items in (50, 400)),
    Case(8, 5, 400, LARGE, 0.02, alpha=ALPHA / 10),
]


def main(repetitions: int) -> None:
    for case in CASES:
        alarms, without, found = rates(case, repetitions)
        print(f"{case}: false {alarms:.3f}, without items {without:.3f}, found {found:.2f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
