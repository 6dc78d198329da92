"""The points of training at which an evaluation is taken: its key `at`, a list of parts of the run's steps.

    evaluation:
      zero_shot: {at: [0.125, 1.0], limit: 200, ...}    after an eighth of the steps, and after the last

The class does not get it as an argument, and it does not enter the hash of what is measured: points can be added or
removed, and what was found at the others is kept. Options whose scores do not depend on the trained weights lack it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ablate.text import shown

AT, END = "at", 1


def problems(flat: Mapping[str, Any], group: str, of_training: str) -> Iterator[str]:
    """A line for each key `at` of the options of `group` that is no list of points, or whose option is `of_training`.

    flat: the values of a config by their dotted keys.
    """
    for key, value in flat.items():
        option, _, last = key.rpartition(".")
        if last != AT or option.rpartition(".")[0] != group:
            continue
        if flat.get(f"{option}.{of_training}") is True:
            yield f"{key}={shown(value)}: it is part of training, and taken at the steps of trainer.evaluate_every"
        elif problem := _problem(value):
            yield f"{key}={shown(value)}: {problem}"


def step_of(part: float, steps: int) -> int:
    """The step after which a part of training is over, of `steps`; the first at least."""
    return min(steps, max(1, round(part * steps)))


def before_end(content: Mapping[str, Any], steps: int) -> dict[int, float]:
    """The steps before the last of `steps` at which an evaluation with these settings is taken, each with its part."""
    found = {step_of(part, steps): part for part in sorted(content.get(AT) or (), reverse=True)}
    return {step: found[step] for step in sorted(found) if step < steps}


def name(evaluation: str, step: int, part: str = "") -> str:
    """The key under which a record names a point without a score, or the part of the evaluation that has none there."""
    return f"{evaluation} at step {step}{f': {part}' if part else ''}"


def is_of(name: str, evaluations: Collection[str]) -> bool:
    """Whether such a key is of one of these evaluations."""
    return name.partition(" at step ")[0] in evaluations


def is_named(evaluation: str, step: int, names: Iterable[str]) -> bool:
    """Whether a point is among those that a record names, as a whole or in part."""
    whole = name(evaluation, step)
    return any(key == whole or key.startswith(f"{whole}: ") for key in names)


def _problem(value: Any) -> str:
    """What is wrong with a value of the key; empty where nothing is."""
    if not isinstance(value, list) or not value:
        return "must be a list of parts of training, such as [0.125,1]"
    if wrong := [part for part in value if not _is_part(part)]:
        return f"each part must be a number above 0 and at most {END}, and {shown(wrong[0])} is not"
    if twice := [part for part in value if value.count(part) > 1]:
        return f"{shown(twice[0])} is there twice"
    return "" if END in value else f"must contain {END}, the end, whose score is that of the run"


def _is_part(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= END
