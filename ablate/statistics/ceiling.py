"""The noise ceiling: how well two tables would agree if nothing but seed noise came between them."""

from __future__ import annotations

import numpy as np
from scipy import stats

SIMULATIONS = 4000
LOWEST = 0.05

Ceiling = dict[str, tuple[float, float]]


def scale_of(ours: np.ndarray, theirs: np.ndarray, errors: np.ndarray) -> float:
    """The ratio of our differences, noise removed, to the published ones (root mean squares); all arguments (rows,).

    A measured difference is truth plus noise, so mean(truth^2) is mean(ours^2) - mean(errors^2), at least 0.
    """
    beyond = max(0.0, float(np.mean(ours**2) - np.mean(errors**2)))
    return float(np.sqrt(beyond / np.mean(theirs**2))) if np.any(theirs) else 0.0


def ceiling(truth: np.ndarray, scale: float, ours: np.ndarray, theirs: np.ndarray) -> Ceiling:
    """Median and 5 % quantile of each figure of agreement if only noise separated the tables.

    `truth` (rows,) holds the true differences to the published baseline; ours are taken to be `scale` times as large.
    `ours` and `theirs` (rows + 1,) are the standard errors of each side, the baseline's first: its noise is common to
    all rows of a side. Simulated with a fixed seed, so the same arguments give the same result.
    """
    generator = np.random.default_rng(2021)

    def measured(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
        # (simulations, rows): difference plus the row's noise minus the baseline's
        noise = generator.normal(size=(SIMULATIONS, len(errors))) * errors
        return np.asarray(values + noise[:, 1:] - noise[:, :1])

    here, there = measured(scale * truth, ours), measured(truth, theirs)
    has_sign = truth != 0  # as in the tables, rows without a published difference are not counted
    signs = (np.sign(here) == np.sign(there))[:, has_sign].sum(1)
    figures = {"spearman": _spearman(here, there), "kendall": _kendall(here, there), "signs": signs}
    return {name: (float(np.median(values)), float(np.quantile(values, LOWEST))) for name, values in figures.items()}


def _spearman(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(simulations,) from two (simulations, rows): Pearson's correlation of the ranks."""
    ranks = [stats.rankdata(side, axis=1) for side in (here, there)]
    return _cosine(*(side - side.mean(1, keepdims=True) for side in ranks))


def _kendall(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(simulations,) tau-b, as `scipy.stats.kendalltau` has it, from two (simulations, rows).

    Over all pairs of rows it is the cosine of the two sides' signs of difference, (simulations, pairs): ties have sign
    0, and so count neither in the product nor in the norm of their side.
    """
    first, second = np.triu_indices(here.shape[1], 1)
    return _cosine(*(np.sign(side[:, first] - side[:, second]) for side in (here, there)))


def _cosine(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Cosine of each pair of lines of two (simulations, n); 0 where one is all zeros."""
    sizes = np.sqrt((here**2).sum(1) * (there**2).sum(1))
    return np.asarray((here * there).sum(1) / np.where(sizes > 0, sizes, np.inf))
