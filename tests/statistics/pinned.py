"""Comparisons of made-up loss tables, stored number by number; where a number changes on purpose, renew them by

    python -m tests.statistics.pinned

and read the differences before they are committed. Whether the numbers are right is for `test_comparison.py` to say.
"""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from ablate.statistics.ceiling import ceiling, scale_of
from ablate.statistics.comparison import compare
from ablate.statistics.noise import noise_floor, typical_noise
from ablate.statistics.planned import planned_effect
from ablate.statistics.ranks import intervals, rank_correlations
from ablate.statistics.residuals import residuals

FILE = Path(__file__).parent / "pinned.json"
NAN = math.nan


def tables():
    """Loss tables (rows, seeds), the baseline first, and the controls of the other rows."""
    rng = np.random.default_rng(20210611)

    def drawn(rows, seeds, sd=0.01):
        noise = rng.normal(0, 1, (rows, seeds)) * sd * rng.uniform(0.5, 2, (rows, 1))
        return 5 + rng.normal(0, 0.02, seeds) + rng.normal(0, 0.03, (rows, 1)) + noise

    more_of_baseline = drawn(6, 5)
    more_of_baseline[1:, 3:] = NAN
    holes = drawn(9, 5)
    holes[rng.random(holes.shape) < 0.25] = NAN
    lone_seeds = drawn(6, 5)
    lone_seeds[1:5, 3:] = NAN
    lone_seeds[0, 4] = NAN
    lone_seeds[5, 1:4] = NAN  # of its seeds 0 and 4, the last is no other row's
    quiet = np.full((4, 4), 5.0) + np.arange(4)[:, None]
    quiet[2:] += rng.normal(0, 0.01, (2, 4))
    quiet[1:, 3:] = NAN
    one_row = drawn(2, 4)
    equal = np.full((3, 3), 5.0)
    return {
        "even": (drawn(8, 3), None),
        "more seeds of the baseline": (more_of_baseline, None),
        "holes": (holes, None),
        "a seed of one row": (lone_seeds, None),
        "rows without noise": (quiet, None),
        "nothing but equal numbers": (equal, None),
        "one row": (one_row, None),
        "two seeds": (drawn(4, 2), None),
        "one seed": (drawn(4, 1), None),
        "two controls": (drawn(8, 3), [0, 0, 0, 1, 1, 1, 1]),
        "a chain": (drawn(6, 3), [0, 1, 2, 3, 4]),
    }


def made():
    """Every number of every comparison, its noise, the detectable effects, rank correlations and a ceiling."""
    found = {}
    for name, (losses, controls) in tables().items():
        noise = residuals(losses)
        found[name] = {
            "variance": _rounded(noise.variance),
            "degrees": _rounded(noise.degrees),
            "noise": _rounded([typical_noise(losses), noise.seed_variance, noise_floor(losses[0])]),
            "comparisons": [
                {key: _rounded(value) for key, value in dataclasses.asdict(one).items()}
                for one in compare(losses, controls, margin=0.02)
            ],
        }
    found["with items"] = _with_items()
    found["planned"] = [
        _rounded(planned_effect(0.01, rows, seeds, baseline))
        for rows, seeds, baseline in ((1, 3, None), (12, 3, 5), (0, 3, 3), (4, 2, 5), (4, 3, 2), (50, 5, 5))
    ]
    found["ranks"] = _of_ranks()
    return found


def _with_items():
    """Comparisons with what items add: known, unknown, below what they allow, and without any noise of seeds."""
    losses = tables()["even"][0]
    known = {"item_error": np.array([NAN, 0.0, 0.001, 0.003, 0.01, 0.03, 0.003]), "least_error": np.full(7, 0.006)}
    quiet = np.full((3, 3), 5.0) + np.array([[0.0], [0.02], [0.05]])
    alone = {"item_error": np.array([0.01, 0.01]), "least_error": np.array([0.01, 0.01])}
    compared = [*compare(losses, **known), *compare(quiet, **alone)]
    return [{key: _rounded(value) for key, value in dataclasses.asdict(one).items()} for one in compared]


def _of_ranks(rows=14):
    ours, theirs = np.random.default_rng(5).normal(0, 1, (2, rows))
    theirs = ours + 0.8 * theirs
    theirs[3], theirs[5] = theirs[4], 0.0  # a tie, and a row without a published difference
    errors = np.linspace(0.1, 0.4, rows + 1)
    scale = scale_of(ours, theirs, errors[1:])
    spearman, kendall = rank_correlations(ours, theirs)
    limits = [_rounded(pair) for pair in intervals(spearman, kendall, rows)]
    expected = ceiling(theirs, scale, errors, errors / 2)
    return {
        "correlations": _rounded([spearman, kendall, scale]),
        "intervals": limits,
        "ceiling": {name: _rounded(pair) for name, pair in expected.items()},
    }


def _rounded(value):
    """Numbers to nine significant digits, which no machine rounds differently; NaN as None."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_rounded(one) for one in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return float(f"{value:.9g}") if math.isfinite(value) else None if math.isnan(value) else str(value)


if __name__ == "__main__":
    FILE.write_text(json.dumps(made(), indent=1) + "\n")
