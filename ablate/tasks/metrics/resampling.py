"""Standard errors over items: of a mean by its formula, of any other function of sums by the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ablate.tasks.example import Example, Judged

DRAWS, SEED = 1000, 20210611


def of_mean(items: Sequence[float]) -> float | None:
    """The standard error of the mean of independent items; None for fewer than two."""
    if len(items) < 2:
        return None
    return float(np.std(items, ddof=1) / math.sqrt(len(items)))


def of_function(sums: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """The standard deviation of `function` over resamples of the rows of `sums` (N,K); None for fewer than two rows.

    A row is what one independent item (a question, a passage) adds to the K sums; `function` maps (draws,K), the sums
    of each resample, to (draws,). The draws are the same in each call, so that the same outputs give the same number.
    """
    count = len(sums)
    if count < 2:
        return None
    times = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), size=DRAWS)  # (draws,N)
    values = function(times @ sums)
    return float(np.std(values, ddof=1))


def in_per_cent(error: float | None) -> float | None:
    """A standard error of a share, in per cent."""
    return None if error is None else 100 * error


def mean_judged(examples: Sequence[Example], items: Sequence[float], metric: str, scorer: str) -> Judged:
    """A task whose score is the mean of the scores of its items, each from 0 to 1."""
    value = 100 * float(np.mean(items))
    ids = [example.id for example in examples]
    return Judged(value, {metric: value}, ids, items, in_per_cent(of_mean(items)), scorer)
