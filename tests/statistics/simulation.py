"""Simulated tables of losses, to measure how often the test of `ablate.statistics.comparison` is wrong, and finds.

`python -m tests.statistics.simulation [repetitions] [words]` prints one line per case whose name contains all `words`:
the share of tables with a false difference where nothing differs, and the share found of three rows that differ by 4 sd
of an ordinary row. A standard error is in brackets.

Losses are mean[row] + seed[s] + noise[row, s]; the noises of an ordinary row and of the seeds have sd 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ablate.statistics.comparison import ALPHA, Comparison, Table, compare
from ablate.statistics.simultaneous import Region

Noise = Callable[[np.random.Generator, int, int], np.ndarray]  # (generator, rows, seeds) to (rows, seeds)

STEP = 15.0  # how much lower the second state of a run is
EFFECT, DIFFERING = 4.0, 3


def normal(rng, rows, seeds):
    return rng.normal(size=(rows, seeds))


def student(rng, rows, seeds):
    return rng.standard_t(3, size=(rows, seeds)) / np.sqrt(3)


def exponential(rng, rows, seeds):
    return rng.exponential(size=(rows, seeds)) - 1


def lognormal(rng, rows, seeds):
    return (rng.lognormal(size=(rows, seeds)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)


def spread(log_sd):
    """Rows whose sd is log-normal."""
    return lambda rng, rows, seeds: normal(rng, rows, seeds) * np.exp(log_sd * rng.normal(size=(rows, 1)))


def uniform_spread(rng, rows, seeds):
    return normal(rng, rows, seeds) * np.exp(rng.uniform(-1.5, 1.5, (rows, 1)))


def inverse_chi2(rng, rows, seeds):
    return normal(rng, rows, seeds) * np.sqrt(3 / rng.chisquare(3, (rows, 1)))


def wild(noise=normal, rows_at_most=3):
    """Three rows beside the baseline with 20 times the sd."""

    def draw(rng, rows, seeds):
        values = noise(rng, rows, seeds)
        values[rng.permutation(np.arange(1, rows))[:rows_at_most]] *= 20
        return values

    return draw


def first_row(factor, noise=normal):
    """A baseline with `factor` times the sd."""

    def draw(rng, rows, seeds):
        values = noise(rng, rows, seeds)
        values[0] *= factor
        return values

    return draw


def second_row(factor):
    """A first row beside the baseline with `factor` times the sd: of two controls, the second."""

    def draw(rng, rows, seeds):
        values = normal(rng, rows, seeds)
        values[1] *= factor
        return values

    return draw


def half_noisier(rng, rows, seeds):
    return normal(rng, rows, seeds) * np.where(rng.random((rows, 1)) < 0.5, 3, 1)


def student_spread(rng, rows, seeds):
    return student(rng, rows, seeds) * np.exp(0.5 * rng.normal(size=(rows, 1)))


def two_state(size=STEP):
    """One run in five ends lower."""
    return lambda rng, rows, seeds: normal(rng, rows, seeds) - size * (rng.random((rows, seeds)) < 0.2)


def two_state_by_seed(size=STEP):
    """Whether a run ends lower is up to its seed: for one seed in four, four rows in five do."""

    def draw(rng, rows, seeds):
        chance = np.where(rng.random(seeds) < 0.25, 0.8, 0.0)
        return normal(rng, rows, seeds) - size * (rng.random((rows, seeds)) < chance)

    return draw


NOISES: dict[str, Noise] = {
    "normal": normal,
    "t(3)": student,
    "exponential": exponential,
    "log-normal": lognormal,
    "spread e^±0.5": spread(0.5),
    "spread e^±1": spread(1.0),
    "3 rows × 20": wild(),
    "baseline × 5": first_row(5),
    "two-state, by seed": two_state_by_seed(),
    "two-state": two_state(),
    "baseline × 2": first_row(2),
    "baseline × 3": first_row(3),
    "baseline × 10": first_row(10),
    "row 1 × 5": second_row(5),
    "half the rows × 3": half_noisier,
    "uniform spread": uniform_spread,
    "inverse chi2(3)": inverse_chi2,
    "spread e^±0.5, 3 rows × 20": wild(spread(0.5)),
    "spread e^±0.5, baseline × 3": first_row(3, spread(0.5)),
    "t(3), spread e^±0.5": student_spread,
    "two-state, small": two_state(5.0),
    "two-state by seed, small": two_state_by_seed(5.0),
}
WITHOUT_BOUND = {"two-state"}  # no test of few seeds holds for it


def one_control(rows):
    return np.zeros(rows, int)


def two_controls(rows):
    """Row 1 is compared with the baseline, and is what the second half of the rows is compared with."""
    return np.where(np.arange(1, rows + 1) > rows // 2, 1, 0)


def chain(rows):
    """Each row is compared with the one before it."""
    return np.arange(rows)


CONTROLS = {"one control": one_control, "two controls": two_controls, "chain": chain}


@dataclass(frozen=True)
class Case:
    """`rows` beside the baseline with `seeds` each, `extra` more of the baseline; a share of runs is `missing`."""

    noise: str
    rows: int
    seeds: int
    extra: int = 0
    controls: str = "one control"
    missing: float = 0.0

    def __str__(self) -> str:
        holes = f", {self.missing:.0%} missing" if self.missing else ""
        return f"{self.noise}, {self.rows} rows, {self.seeds}+{self.extra} seeds, {self.controls}{holes}"

    def table(self, rng: np.random.Generator) -> np.ndarray:
        """Losses (rows + 1, seeds + extra) of rows that do not differ."""
        return self.repeated(rng, 1)[0]

    def repeated(self, rng: np.random.Generator, times: int) -> list[np.ndarray]:
        """Tables of the same rows, each as noisy in all of them, with other seeds."""
        total = self.seeds + self.extra
        runs = rng.normal(size=times * total) + NOISES[self.noise](rng, self.rows + 1, times * total)
        tables = np.split(runs, times, axis=1)
        for losses in tables:
            losses[1:, self.seeds :] = np.nan
            losses[rng.random(losses.shape) < self.missing] = np.nan
        return tables

    def tables(self, repetitions: int) -> Iterator[tuple[np.random.Generator, np.ndarray]]:
        for repetition in range(repetitions):
            rng = np.random.default_rng([self.rows, self.seeds, self.extra, repetition])
            yield rng, self.table(rng)

    def compare(self, losses: np.ndarray, margin: float | None = None) -> list[Comparison]:
        return compare(losses, CONTROLS[self.controls](self.rows), margin=margin)

    def found(self, losses: np.ndarray) -> np.ndarray:
        """(rows,): -1 or 1 where a row is found to differ, else 0. As `compare`, without what takes its time."""
        table = Table.of(losses, CONTROLS[self.controls](self.rows))
        errors, judged, delta = table.errors(), table.is_judged, table.delta
        if errors is None:
            differs = [row.differs for row in self.compare(losses)]
        else:
            differs = np.zeros(self.rows, bool)
            differs[judged] = Region.of(errors, delta[judged], ALPHA).p_adjusted(until=ALPHA) <= ALPHA
        return np.where(differs, np.sign(np.nan_to_num(delta)), 0)


def false_alarms(case: Case, repetitions: int) -> float:
    """Share of tables with a row that is said to differ, where none does."""
    return float(np.mean([case.found(losses).any() for _, losses in case.tables(repetitions)]))


def power(case: Case, repetitions: int, effect: float = EFFECT) -> float:
    """Share found, with the right sign, of three rows that differ by `effect`; none of them a control."""
    found = []
    for rng, losses in case.tables(repetitions):
        controls = CONTROLS[case.controls](case.rows)
        rows = rng.permutation(np.setdiff1d(np.arange(1, case.rows + 1), controls))[:DIFFERING]
        losses[rows] += effect
        found.append((case.found(losses)[rows - 1] > 0).mean())
    return float(np.mean(found))


def false_sameness(case: Case, repetitions: int, margin: float) -> float:
    """Share of tables with a row said to be the same within `margin`, where all differ by exactly that."""
    false = []
    for _, losses in case.tables(repetitions):
        losses[1:] += margin
        false.append(any(row.same_within for row in case.compare(losses, margin=margin)))
    return float(np.mean(false))


def sameness(case: Case, repetitions: int, margin: float) -> float:
    """Share of rows said to be the same within `margin`, where they are."""
    tables = case.tables(repetitions)
    return float(np.mean([[row.same_within for row in case.compare(losses, margin=margin)] for _, losses in tables]))


def detectable_found(case: Case, repetitions: int) -> float:
    """Share found of three rows that differ by what a table of the same rows, with other seeds, calls detectable."""
    found = []
    for repetition in range(repetitions):
        losses, again = case.repeated(np.random.default_rng([case.rows, repetition]), 2)
        size = case.compare(losses)[0].detectable
        again[1 : DIFFERING + 1] += size
        found.append((case.found(again)[:DIFFERING] > 0).mean())
    return float(np.mean(found))


def standard_error(share: float, repetitions: int) -> float:
    return float(np.sqrt(max(share * (1 - share), 1 / repetitions / 4) / repetitions))


DESIGNS = ((3, 0), (3, 2), (5, 0))
CASES = [
    *(Case(noise, rows, seeds, extra) for noise in NOISES for rows in (12, 51) for seeds, extra in DESIGNS),
    *(
        Case(noise, rows, seeds, extra, controls)
        for controls in ("two controls", "chain")
        for noise in [*list(NOISES)[:9], "row 1 × 5"]
        for rows in (12, 51)
        for seeds, extra in DESIGNS[1:]
    ),
    *(Case(noise, 5, seeds, extra) for noise in list(NOISES)[:9] for seeds, extra in DESIGNS[1:]),
    *(Case(noise, 12, 5, 0, missing=0.1) for noise in list(NOISES)[:9]),
]


def main(repetitions: int, words: list[str]) -> None:
    for case in CASES:
        if all(word in str(case) for word in words):
            alarms, found = false_alarms(case, repetitions), power(case, repetitions // 3)
            errors = standard_error(alarms, repetitions), standard_error(found, repetitions // 3)
            print(f"{case}: false {alarms:.3f} ({errors[0]:.3f}), found {found:.2f} ({errors[1]:.2f})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:])
