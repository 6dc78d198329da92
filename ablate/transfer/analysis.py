"""What several contexts say of the same changes: each row over all contexts, each pair of contexts, each axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ablate.statistics.context_pairs import Agreement, agreement
from ablate.statistics.transfer import RowAcross, transfer
from ablate.transfer.context import AXES, SIZE, TOKENS, Change, Context, matched

GAIN, NATS = "gain", "nats"
ORDERED = (SIZE, TOKENS)


@dataclass(frozen=True)
class Moved:
    """How far effects move on an axis: between contexts that differ in nothing else, over all rows.

    `spread` is the root mean square of their differences, `beyond` the same without what noise alone makes, both in the
    unit of the analysis.
    """

    axis: str
    first: str
    second: str
    rows: int
    spread: float
    beyond: float


@dataclass(frozen=True)
class Transfer:
    """The whole analysis: effects (rows, contexts) in `unit`, positive where the change is better.

    `contexts` are those that the verdicts rest on, `all` those of the pairs, early losses and published tables
    included. `pairs` maps the places of two contexts in `all` to their agreement.
    """

    contexts: list[Context]
    all: list[Context]
    changes: list[Change]
    labels: list[str]
    unit: str
    effects: np.ndarray
    errors: np.ndarray
    rows: list[RowAcross]
    pairs: Mapping[tuple[int, int], Agreement]
    moved: list[Moved]

    @property
    def dearest(self) -> int:
        """The place of the context that costs most, whose order of rows the others may foretell."""
        return int(np.nanargmax([context.flops for context in self.contexts]))


def analysed(trained: Sequence[Context], others: Sequence[Context] = ()) -> Transfer:
    """Judge the changes that two `trained` contexts or more have; `others` take part in the pairs alone."""
    changes = matched(trained)
    contexts = [context for context in trained if set(context.effects) & set(changes)]
    unit = GAIN if all(context.has_rungs for context in contexts) else NATS
    effects, errors = _table(contexts, changes, unit)
    p, degrees = (_all(contexts, changes, field) for field in ("p_adjusted", "degrees"))
    rows = transfer(effects, errors, p, degrees, _ordered(contexts), _levels(contexts))
    everything = [*contexts, *others]
    labels = [_label(change, contexts) for change in changes]
    pairs = {
        (first, second): _agreement(everything[first], everything[second], changes)
        for first in range(len(everything))
        for second in range(first + 1, len(everything))
    }
    moved = _moved(contexts, effects, errors)
    return Transfer(contexts, everything, changes, labels, unit, effects, errors, rows, pairs, moved)


def _all(contexts: Sequence[Context], changes: Sequence[Change], field: str) -> np.ndarray:
    """(rows, contexts): one field of all effects."""
    values = [_of(context, change, field) for change in changes for context in contexts]
    return np.array(values).reshape(len(changes), len(contexts))


def _of(context: Context, change: Change, field: str) -> float:
    effect = context.effects.get(change)
    return float(getattr(effect, field)) if effect else math.nan


def _table(contexts: Sequence[Context], changes: Sequence[Change], unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Effects and errors (rows, contexts), positive where the change is better; NaN where a context tells nothing."""
    effect, error, sign = ("gain", "gain_error", 1.0) if unit == GAIN else ("nats", "error", -1.0)
    table, known = sign * _all(contexts, changes, effect), _all(contexts, changes, error)
    usable = np.isfinite(table) & (known > 0)
    return np.where(usable, table, np.nan), np.where(usable, known, np.nan)


def _label(change: Change, contexts: Sequence[Context]) -> str:
    return next(context.effects[change].label for context in contexts if change in context.effects)


def _ordered(contexts: Sequence[Context]) -> dict[str, np.ndarray]:
    """For each ordered axis the logarithm of the place of the most contexts that differ in it alone, NaN for others.

    Contexts of other sizes may have another number of tokens, too: a recipe of tokens a parameter asks for that.
    """
    found = {}
    for axis in ORDERED:
        allowed = {SIZE, TOKENS} if axis == SIZE else {TOKENS}
        groups = [
            [place for place, other in enumerate(contexts) if set(first.differs_in(other)) <= allowed]
            for first in contexts
        ]
        best = max(groups, key=lambda group: len({_place(contexts[place], axis) for place in group}))
        at = np.array([_place(context, axis) if place in best else math.nan for place, context in enumerate(contexts)])
        if len(np.unique(at[~np.isnan(at)])) > 2:
            found[axis] = at
    return found


def _place(context: Context, axis: str) -> float:
    value = context.size if axis == SIZE else context.tokens
    return math.log(value) if value > 0 else math.nan


def _levels(contexts: Sequence[Context]) -> dict[str, list[str | None]]:
    """By axis the level of each context that differs from the first in it alone, or in nothing; None for others."""
    found = {}
    for axis in AXES:
        names = [_level(contexts[0], context, axis) for context in contexts]
        if len({name for name in names if name is not None}) > 1:
            found[axis] = names
    return found


def _level(first: Context, context: Context, axis: str) -> str | None:
    allowed = {axis} | ({TOKENS} if axis == SIZE else set())
    if not set(first.differs_in(context)) <= allowed:
        return None
    return (
        f"{' '.join(sorted(context.settings[axis]))} {context.tokens:g}"
        if axis in ORDERED
        else " ".join(sorted(context.settings[axis]))
    )


def _agreement(first: Context, second: Context, changes: Sequence[Change]) -> Agreement:
    """In nats, whose order in a context is that of gains."""
    nats = [np.array([-_of(context, change, "nats") for change in changes]) for context in (first, second)]
    own = [np.array([_of(context, change, "own_error") for change in changes]) for context in (first, second)]
    control = np.array([context.control_error for context in (first, second)])
    return agreement(nats[0], nats[1], own[0], own[1], control)


def _moved(contexts: Sequence[Context], effects: np.ndarray, errors: np.ndarray) -> list[Moved]:
    """Of every two contexts that differ in one axis alone, the largest movement first."""
    found = []
    for one in range(len(contexts)):
        for other in range(one + 1, len(contexts)):
            axes = contexts[one].differs_in(contexts[other])
            axis = SIZE if axes == [SIZE, TOKENS] else axes[0] if len(axes) == 1 else ""
            apart = effects[:, other] - effects[:, one]
            known = ~np.isnan(apart)
            if axis and known.any():
                noise = float(np.mean((errors[:, one] ** 2 + errors[:, other] ** 2)[known]))
                square = float(np.mean(apart[known] ** 2))
                names = contexts[one].name, contexts[other].name
                beyond = math.sqrt(max(0.0, square - noise))
                found.append(Moved(axis, *names, int(known.sum()), math.sqrt(square), beyond))
    return sorted(found, key=lambda moved: -moved.beyond)
