"""Simulated studies in several contexts, to measure how often a verdict of transfer or a forecast is wrong.

`python -m tests.statistics.transfer_simulation [repetitions]` prints a line per case, standard errors in brackets.

The effect of a row in a context is mean + tau * normal (+ slope * x where contexts are sizes), its run that plus the
effect of a seed and the noise of a run, of sd 1 in every context; the baseline is one row more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ablate.statistics.comparison import compare
from ablate.statistics.ladder import Ladder
from ablate.statistics.random_effects import AcrossContexts, across_contexts
from ablate.statistics.transfer import FADES, FLIPS, TRANSFERS, RowAcross, transfer
from tests.statistics.simulation import NOISES, standard_error

WORDS = (TRANSFERS, FLIPS, FADES)


@dataclass(frozen=True)
class Case:
    """`rows` in `contexts`, the first `sizes` of which lie a factor 4 apart on an ordered axis."""

    noise: str = "normal"
    rows: int = 12
    contexts: int = 6
    seeds: int = 3
    baseline: int = 5
    mean: float = 0.0
    tau: float = 0.0
    slope: float = 0.0
    sizes: int = 3

    def __str__(self) -> str:
        effects = f"mean {self.mean:g}, tau {self.tau:g}, slope {self.slope:g}"
        return (
            f"{self.noise}, {self.rows} rows, {self.contexts} contexts, {self.seeds}/{self.baseline} seeds, {effects}"
        )

    @property
    def x(self) -> np.ndarray:
        """(contexts,): where each stands on the ordered axis, NaN for those that do not."""
        return np.where(np.arange(self.contexts) < self.sizes, np.arange(self.contexts) * np.log(4), np.nan)

    def measured(self, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Effects, errors, those of the rows alone, adjusted p's (rows, contexts), and the true effects."""
        along = np.nan_to_num(self.x - np.log(4) * (self.sizes - 1) / 2)
        truth = self.mean + self.tau * rng.normal(size=(self.rows, self.contexts)) + self.slope * along
        columns = []
        for context in range(self.contexts):
            losses = rng.normal(size=self.baseline) + NOISES[self.noise](rng, self.rows + 1, self.baseline)
            losses[1:] += truth[:, context : context + 1]
            losses[1:, self.seeds :] = np.nan
            found = compare(losses)
            columns.append([(one.delta, one.error, one.own_error, one.p_adjusted) for one in found])
        effects, errors, own, p = np.array(columns).transpose(2, 1, 0)
        return effects, errors, own, p, truth

    def studies(self, repetitions: int) -> Iterator[tuple[np.ndarray, ...]]:
        for repetition in range(repetitions):
            yield self.measured(np.random.default_rng([self.rows, self.contexts, self.seeds, repetition]))

    def judged(self, effects: np.ndarray, errors: np.ndarray, p: np.ndarray) -> list[RowAcross]:
        return transfer(effects, errors, p, np.full(effects.shape, self.seeds - 1.0), {"size": self.x})

    def words(self, repetitions: int) -> dict[str, tuple[float, float]]:
        """For each word the share of studies that say it of any row, and the share of rows of which it is said."""
        said = []
        for effects, errors, _, p, _ in self.studies(repetitions):
            found = [row.verdict for row in self.judged(effects, errors, p)]
            said.append([[word == verdict for verdict in found] for word in WORDS])
        table = np.array(said)  # (studies, words, rows)
        return {word: (table[:, n].any(1).mean(), table[:, n].mean()) for n, word in enumerate(WORDS)}

    def predicted(self, repetitions: int) -> float:
        """The share of prediction intervals that hold the effect in one more context."""
        held = []
        for repetition, (effects, errors, _, _, _) in enumerate(self.studies(repetitions)):
            further = self.mean + self.tau * np.random.default_rng([1, repetition]).normal(size=self.rows)
            found: list[AcrossContexts] = [across_contexts(*of) for of in zip(effects, errors, strict=True)]
            held.append(
                [one.predicted_low <= true <= one.predicted_high for one, true in zip(found, further, strict=True)]
            )
        return float(np.mean(held))


@dataclass(frozen=True)
class LadderCase:
    """Effects at `sizes` a factor 4 apart, whose slopes have the sd `sd`; forecast at `steps` sizes further.

    Units are those of ln gain: the noise of an effect is .04, about that of three seeds, with a control of .025.
    """

    sd: float
    rows: int = 12
    sizes: int = 3
    steps: int = 1

    def study(self, rng: np.random.Generator) -> tuple[Ladder, float, np.ndarray]:
        x = np.log(4) * np.arange(self.sizes)
        beta, mean = self.sd * rng.normal(size=(self.rows, 1)), 0.2 * rng.normal(size=(self.rows, 1))
        control = np.full(self.sizes, 0.025)
        errors = np.full((self.rows, self.sizes), 0.032)
        noise = errors * rng.normal(size=errors.shape) - control * rng.normal(size=self.sizes)
        further = x[-1] + np.log(4) * self.steps
        return Ladder(mean + beta * x + noise, errors, control, x), further, (mean + beta * further)[:, 0]

    def scored(self, repetitions: int) -> tuple[float, float, float, float]:
        """Coverage of the interval, and the root mean squares of its error, of the last size's, of the mean's."""
        held, errors = [], []
        for repetition in range(repetitions):
            ladder, x, truth = self.study(np.random.default_rng([self.rows, self.sizes, repetition]))
            found = ladder.predict(x)
            held.append((found.low <= truth) & (truth <= found.high))
            errors.append([found.mean - truth, ladder.effects[:, -1] - truth, ladder.effects.mean(1) - truth])
        return (float(np.mean(held)), *np.sqrt(np.mean(np.square(errors), axis=(0, 2))))


CASES = [
    Case(noise, contexts=contexts, seeds=seeds, tau=tau)
    for noise in ("normal", "t(3)", "two-state")
    for contexts in (4, 6)
    for seeds in (3, 5)
    for tau in (0.0, 2.0)
]
FINDABLE = [Case(seeds=seeds, mean=mean, tau=tau) for seeds in (3, 5) for mean, tau in ((3, 0.0), (4, 0.0), (4, 1.0))]
LADDERS = [LadderCase(sd, steps=steps) for sd in (0.0, 0.03, 0.1) for steps in (1, 3)]


def main(repetitions: int) -> None:
    for case in (*CASES, *FINDABLE):
        words = case.words(repetitions)
        said = ", ".join(
            f"{word} {any_row:.3f} ({standard_error(any_row, repetitions):.3f}), a row {row:.3f}"
            for word, (any_row, row) in words.items()
        )
        print(f"{case}: {said}; predicted {case.predicted(repetitions // 4):.3f}", flush=True)
    for ladder in LADDERS:
        held, *errors = ladder.scored(repetitions // 2)
        print(f"{ladder}: held {held:.3f}, errors " + ", ".join(f"{error:.3f}" for error in errors), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
