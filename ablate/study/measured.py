"""Which of a sweep's finished runs have the scores of the evaluations that are asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ablate.config import evaluations, points
from ablate.errors import UserError
from ablate.run.folder import RunFolder
from ablate.run.record import DONE
from ablate.run.status import RunStatus

HAVE, LACK, FAILED, NO_WEIGHTS = "have it", "lack it", "failed", "lack it and their weights"
PAST = "are past it without"


def lines(found: Iterable[RunStatus], config: Callable[[str, int], dict[str, Any]]) -> list[str]:
    """A line for each evaluation after training that `config(row, seed)` of a run that is done asks for, and for each
    point of training at which it is to be taken as well.

    A run without its weights (keep_checkpoints=none, or a record alone) cannot get a score that it lacks.
    """
    counts: dict[str, Counter[str]] = {}
    for status in found:
        for name, state in _states(status, config).items():
            counts.setdefault(name, Counter())[state] += 1
    return [_line(name, states) for name, states in counts.items()]


def _states(status: RunStatus, config: Callable[[str, int], dict[str, Any]]) -> dict[str, str]:
    """What a run has of each evaluation that is asked of it."""
    record = status.record
    if status.state != DONE or record is None:
        return {}
    try:
        asked = config(record.row, record.seed)
    except UserError:  # a row of a package that is not installed here
        return {}
    lacking = evaluations.missing(asked, record.to_json())
    has_weights = not status.is_stored and RunFolder(status.folder).weights.exists()
    finals = {
        name: HAVE
        if name not in lacking
        else NO_WEIGHTS
        if not has_weights
        else FAILED
        if evaluations.failures_of(name, record.scores_failed)
        else LACK
        for name in evaluations.after_training(asked[evaluations.GROUP])
    }
    taken = evaluations.points_taken(asked, record.to_json())
    on_the_way = {
        points.name(name, step): HAVE if step in taken[name] else PAST
        for name, steps in evaluations.points_before_end(asked).items()
        for step in steps
    }
    return finals | on_the_way


def _line(name: str, states: Counter[str]) -> str:
    parts = [f"{states[state]} {state}" for state in (HAVE, LACK, FAILED, NO_WEIGHTS, PAST) if states[state]]
    return f"evaluation {name}: of {states.total()} runs that are done, {', '.join(parts)}"
