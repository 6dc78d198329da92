"""Comparisons of made-up loss tables, stored number by number; where a number changes on purpose, renew them by

    python -m tests.statistics.pinned

and read the differences before they are committed. Whether the numbers are right is for `test_moderated.py` to say.
"""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from ablate.statistics import moderated
from ablate.statistics.ceiling import ceiling, scale_of
from ablate.statistics.ranks import intervals, rank_correlations

FILE = Path(__file__).parent / "pinned.json"
NAN = math.nan


def tables():
    """Loss tables (rows, seeds), the baseline first, and the section of each other row."""
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
        "even": (drawn(8, 3), list("aaabbcc")),
        "more seeds of the baseline": (more_of_baseline, list("aabbb")),
        "holes": (holes, list("aabbccdd")),
        "a seed of one row": (lone_seeds, list("aaaaa")),
        "rows without noise": (quiet, list("aaa")),
        "nothing but equal numbers": (equal, list("aa")),
        "one row": (one_row, ["a"]),
        "two seeds": (drawn(4, 2), list("aab")),
        "one seed": (drawn(4, 1), list("aab")),
    }


def made():
    """Every number of every comparison, its noise, the detectable effects, rank correlations and a ceiling."""
    found = {}
    for name, (losses, sections) in tables().items():
        noise = moderated.estimate_noise(losses)
        compared = moderated.compare(losses, sections)
        found[name] = {
            "variance": _rounded(noise.variance),
            "degrees": _rounded(noise.degrees),
            "of all rows": _rounded([noise.pooled, noise.seed_variance, moderated.noise_floor(losses[0])]),
            "comparisons": [
                {key: _rounded(value) for key, value in dataclasses.asdict(one).items()}
                | {"detectable": _rounded(one.detectable)}
                for one in compared
            ],
        }
    found["planned"] = [
        _rounded(moderated.planned_effect(0.01, rows, seeds, baseline))
        for rows, seeds, baseline in ((1, 3, None), (12, 3, 5), (0, 3, 3), (4, 2, 5), (4, 3, 2), (50, 5, 5))
    ]
    found["ranks"] = _of_ranks()
    return found


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
