"""Evaluations that are chosen for a run after it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ablate.config import evaluations, options
from ablate.config.composing import written
from ablate.config.overrides import read
from ablate.errors import UserError

Tree = dict[str, Any]


def chosen(overrides: Sequence[str]) -> Tree:
    """What ``evaluation=NAME`` or ``evaluation=[A,B]`` and ``evaluation.NAME.key=value`` choose, by name.

    Interpolations stay as they are written, to be read in the config of a run. Raises `UserError` with a line for each
    override that is none of these, and for an evaluation that is part of training.
    """
    found, errors = read(overrides)
    names: list[str] = []
    for override in found:
        if override.key.partition(".")[0] != evaluations.GROUP:
            errors.append(f"{override.text}: a finished run takes evaluation=NAME and evaluation.NAME.KEY=VALUE alone")
        elif override.is_group:
            names += options.listed(override.value)
    there = options.groups()[evaluations.GROUP]
    of_training = {name for name in there if evaluations.is_of_training(name)}
    errors += [
        f"evaluation={name} is part of training: a finished run has its scores already"
        for name in names
        if name in of_training
    ]
    if not names and not errors:
        errors.append(f"choose what to measure: evaluation=NAME, of {', '.join(sorted(there.keys() - of_training))}")
    if errors:
        raise UserError("\n".join(errors))
    with_training = [*options.listed(options.defaults()[evaluations.GROUP]), *names]
    values = [override.text for override in found if not override.is_group]
    config = written([f"{evaluations.GROUP}={options.written(with_training)}", *values])
    return evaluations.after_training(config[evaluations.GROUP])


def added(config: Tree, wanted: Tree) -> Tree:
    """The config of a run with the evaluations of `chosen` beside, or in place of, those that it has."""
    return {**config, evaluations.GROUP: {**config[evaluations.GROUP], **wanted}}
