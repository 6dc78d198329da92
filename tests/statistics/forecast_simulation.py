"""Simulated ladders of sizes, to measure how often the interval of a forecast holds what is measured at the next size.

`python -m tests.statistics.forecast_simulation [repetitions]` prints a line per case, standard errors in brackets.

Losses are in nats, the noise of a run of sd .013. Sizes are a factor 4 of FLOPs apart. The effect of a row is normal of
sd .07, and moves by its slope, normal of sd `slope`, per factor e of FLOPs; that of the baseline falls as a power of
them, by .25 between the first two sizes. Forecasts are made from the compared losses, as from a sweep's.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from ablate.statistics.comparison import Table
from ablate.statistics.ladder import STEEPEST, Ladder, Noise, trend
from tests.statistics.simulation import NOISES, standard_error

SD, EFFECT, FALL, STEP = 0.013, 0.07, 0.25, np.log(4)
PRIOR = 0.03  # of the slopes' sd, in nats


@dataclass(frozen=True)
class ForecastCase:
    """`rows` and the baseline at `sizes`, then at one `further` steps on."""

    noise: str = "normal"
    slope: float = 0.01
    rows: int = 12
    sizes: int = 2
    seeds: int = 3
    baseline: int = 5
    further: int = 1

    def measured(self, rng: np.random.Generator, effects: np.ndarray, loss: float) -> tuple[np.ndarray, np.ndarray]:
        """(3, rows): differences, their errors and the rows' own part; and the losses of the baseline (seeds,)."""
        losses = rng.normal(size=self.baseline) + NOISES[self.noise](rng, self.rows + 1, self.baseline)
        losses = SD * losses + loss
        losses[1:] += effects[:, None]
        losses[1:, self.seeds :] = np.nan
        table = Table.of(losses)
        errors = table.errors()
        assert errors is not None
        return np.array([table.delta, *errors.standard_errors()]), losses[0]

    def study(self, rng: np.random.Generator) -> tuple[np.ndarray, bool, np.ndarray]:
        """Whether the interval of each row (rows,) holds, and the baseline's, and the errors of three forecasts."""
        x = STEP * np.array([*range(self.sizes), self.sizes - 1 + self.further])
        exponent = rng.uniform(0.001, STEEPEST)
        fallen = -np.expm1(-exponent * x) / exponent
        means, slopes = EFFECT * rng.normal(size=self.rows), self.slope * rng.normal(size=self.rows)
        parts = [
            self.measured(rng, means + slopes * at, 4 - FALL * fall / fallen[1])
            for at, fall in zip(x, fallen, strict=True)
        ]
        table = np.array([found for found, _ in parts])  # (sizes + 1, 3, rows)
        effects, errors, own = table[:-1].transpose(1, 2, 0)
        control = np.sqrt(np.maximum(0, np.median(errors**2 - own**2, axis=0)))
        noise = Noise.pooled(own, control, np.full(own.shape, self.seeds))
        ladder = Ladder(effects, noise.errors, noise.control, x[:-1], PRIOR)
        found = ladder.predict(x[-1], noise.errors[:, -1], noise.control[-1], degrees=noise.degrees)
        truth = table[-1, 0]
        held = (found.low <= truth) & (truth <= found.high)
        wrong = np.array([found.mean - truth, effects[:, -1] - truth, effects.mean(1) - truth])
        losses = np.array([baseline for _, baseline in parts])
        return held, self.holds(losses, x), wrong

    def holds(self, losses: np.ndarray, x: np.ndarray) -> bool:
        """Whether the interval of the baseline's loss holds that at the last size; `losses` (sizes + 1, seeds)."""
        sd = np.sqrt(losses[:-1].var(axis=1, ddof=1).mean() / self.baseline)
        degrees = self.sizes * (self.baseline - 1)
        found = trend(losses[:-1].mean(1), np.full(self.sizes, sd), x[:-1], x[-1], sd, degrees=degrees)
        return bool(found.low[0] <= losses[-1].mean() <= found.high[0])

    def scored(self, repetitions: int) -> tuple[float, ...]:
        """Coverage of rows and of the baseline; errors (root mean square) of the forecast, the last size, the mean."""
        studies = [
            self.study(np.random.default_rng([self.rows, self.sizes, self.seeds, repetition]))
            for repetition in range(repetitions)
        ]
        held, of_baseline, wrong = zip(*studies, strict=True)
        errors = np.sqrt(np.mean(np.square(wrong), axis=(0, 2)))
        return float(np.mean(held)), float(np.mean(of_baseline)), *map(float, errors)


CASES = [
    ForecastCase(noise, slope, sizes=sizes, seeds=seeds)
    for noise in ("normal", "t(3)", "two-state")
    for sizes in (2, 3)
    for seeds in (3, 5)
    for slope in (0.0, 0.01, 0.03)
]


def main(repetitions: int) -> None:
    for case in CASES:
        held, of_baseline, *errors = case.scored(repetitions)
        said = ", ".join(f"{error:.4f}" for error in errors)
        print(
            f"{case}: rows {held:.3f}, baseline {of_baseline:.3f} ({standard_error(0.95, repetitions):.3f}), "
            f"errors {said}",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
