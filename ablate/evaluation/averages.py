"""The mean of the scores of several tasks, each of which counts alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ablate.run.score import Score


def mean_of(named: Mapping[str, Score], source: Mapping[str, Any]) -> Score:
    """The mean of scores of one unit and direction, over other items each, so that their errors are independent.

    Its source says in `mean_of` under which names the record has them. Its standard error is None where that of any of
    them is unknown; its chance is the mean of those that have one.
    """
    scores = [*named.values()]
    errors = [score.standard_error for score in scores if score.standard_error is not None]
    chances = [score.chance for score in scores if score.chance is not None]
    return Score(
        sum(score.value for score in scores) / len(scores),
        scores[0].unit,
        scores[0].higher_is_better,
        items=sum(score.items or 0 for score in scores),
        standard_error=math.hypot(*errors) / len(errors) if len(errors) == len(scores) else None,
        chance=sum(chances) / len(chances) if chances else None,
        source={**source, "mean_of": [*named]},
    )
