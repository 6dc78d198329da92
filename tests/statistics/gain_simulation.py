"""Simulated studies with rungs, to measure how often the interval of a gain holds the true one.

`python -m tests.statistics.gain_simulation [repetitions]` prints a line per case, with a standard error in brackets.

The baseline's loss is 1.7 + 1.7 (tokens)^-0.194, which falls by 0.33 nats as tokens grow by e, as in `narang2021-nano`.
A run is that, plus the effect of its seed (sd as the noise, the same at all budgets), plus its own noise; a row is the
baseline with its gain times the tokens.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from ablate.statistics.comparison import compare
from ablate.statistics.gain import Gain, Rungs, gain
from tests.statistics.simulation import NOISES, standard_error

FACTORS = np.array([0.5, 1.0, 2.0])


def law(log_tokens):
    return 1.7 + 1.7 * np.exp(-0.194 * log_tokens)


@dataclass(frozen=True)
class Case:
    """`rows` of one true gain beside the baseline; the noise of a run has the sd `sd`, in nats."""

    noise: str = "normal"
    gain: float = 1.0
    sd: float = 0.013
    rows: int = 1
    seeds: int = 3
    baseline: int = 5
    chained: bool = False  # each row is the next one's control, and gains as much over it

    def __str__(self) -> str:
        kind = ", each against the one before" if self.chained else ""
        return (
            f"{self.noise}, gain {self.gain}, sd {self.sd}, {self.rows} rows, {self.seeds}/{self.baseline} seeds{kind}"
        )

    def gains(self, rng: np.random.Generator) -> list[Gain]:
        """What one study says of its rows."""
        of_seed = self.sd * rng.normal(size=self.baseline)
        logs = np.log(FACTORS)
        rungs = law(logs)[:, None] + of_seed + self.sd * NOISES[self.noise](rng, len(FACTORS), self.baseline)
        steps = np.arange(1, self.rows + 1) if self.chained else np.ones(self.rows)
        rows = (
            law(steps * np.log(self.gain))[:, None]
            + of_seed
            + self.sd * NOISES[self.noise](rng, self.rows, self.baseline)
        )
        rows[:, self.seeds :] = np.nan
        controls = np.arange(self.rows) if self.chained else None
        compared = compare(np.vstack([rungs[1], rows]), controls)
        known = Rungs.of(FACTORS, rungs)
        return [gain(one, known, not self.chained or not place) for place, one in enumerate(compared)]

    def coverage(self, repetitions: int) -> float:
        """The share of studies all of whose intervals hold the true gain."""
        truth, held = np.log(self.gain), []
        for repetition in range(repetitions):
            found = self.gains(np.random.default_rng([self.rows, self.seeds, repetition]))
            held.append(all(one.low <= truth <= one.high for one in found))
        return float(np.mean(held))


CASES = [
    *(
        Case(noise, size, sd, rows, seeds)
        for noise in ("normal", "t(3)")
        for rows in (1, 12)
        for seeds in (3, 5)
        for size, sd in ((1.0, 0.013), (1.28, 0.013), (1.65, 0.013), (0.8, 0.013), (1.3, 0.005), (1.65, 0.005))
    ),
    Case(rows=12, seeds=5, gain=1.05, chained=True),
    Case("two-state", 1.28, 0.013, 12, 5),
]


def main(repetitions: int) -> None:
    for case in CASES:
        held = case.coverage(repetitions)
        print(f"{case}: held {held:.3f} ({standard_error(held, repetitions):.3f})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
