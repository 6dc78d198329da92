"""What noise alone leaves of a perfect agreement between two tables: the figure to hold an agreement against."""

from __future__ import annotations

import numpy as np
from scipy import stats

SIMULATIONS = 4000
LOWEST = 0.05

Ceiling = dict[str, tuple[float, float]]


def scale_of(ours: np.ndarray, theirs: np.ndarray, errors: np.ndarray) -> float:
    """How many times as large as the published differences ours are beyond their noise (root mean squares)."""
    beyond = max(0.0, float(np.mean(ours**2) - np.mean(errors**2)))
    return float(np.sqrt(beyond / np.mean(theirs**2))) if np.any(theirs) else 0.0


def ceiling(truth: np.ndarray, scale: float, ours: np.ndarray, theirs: np.ndarray) -> Ceiling:
    """Median and lowest 5 % of each figure of agreement if noise alone parted the tables; simulated with a fixed seed.

    `truth` (rows,) are differences to a baseline, and `scale` times them what is measured here; `ours` and `theirs`
    (rows + 1,) are the standard errors of each side, the baseline's first: its noise is common to all rows of a side.
    """
    generator = np.random.default_rng(2021)

    def measured(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
        noise = generator.normal(size=(SIMULATIONS, len(errors))) * errors
        return values + noise[:, 1:] - noise[:, :1]

    here, there = measured(scale * truth, ours), measured(truth, theirs)
    told = truth != 0  # a row whose published difference is none has no sign to be equal to
    signs = (np.sign(here) == np.sign(there))[:, told].sum(1)
    figures = {"spearman": _spearman(here, there), "kendall": _kendall(here, there), "signs": signs}
    return {name: (float(np.median(values)), float(np.quantile(values, LOWEST))) for name, values in figures.items()}


def _spearman(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    ranks = [stats.rankdata(side, axis=1) for side in (here, there)]
    return _cosine(*(side - side.mean(1, keepdims=True) for side in ranks))


def _kendall(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Tau-b, as of the tables themselves: pairs that are tied in one of them do not count in its size."""
    first, second = np.triu_indices(here.shape[1], 1)
    return _cosine(*(np.sign(side[:, first] - side[:, second]) for side in (here, there)))


def _cosine(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    sizes = np.sqrt((here**2).sum(1) * (there**2).sum(1))
    return (here * there).sum(1) / np.where(sizes > 0, sizes, np.inf)
