"""What a key may be: declared by the class that has the key, and judged wherever the key is given.

    class Rotary(Position):
        ranges = {"base": above(1), "fraction": FRACTION}
        relations = {"max_length": covers("objective.length")}

Both are dictionaries of what this module offers, because they are read from the source as well, without importing it.
A class has those of the classes above it too. A key without a range is free; null is left to the option.

`added_keys` names the keys that a class has got after runs with it were recorded, each with the value at which it
computes what it did: at that value they are no part of a run's identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.errors import UserError, nearest
from ablate.text import shown


@dataclass(frozen=True)
class Range:
    """What one value may be: `wanted` in words, behind "must be"; and a number `most`, at most."""

    wanted: str
    fits: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    most: int | None = None

    def problem(self, value: Any) -> str:
        """What is wrong with `value`; empty where nothing is."""
        if _is_number(value):
            if self.most is not None and self.most < value < math.inf:
                return f"must be at most {self.most:,}"
            if value in (math.inf, -math.inf) and self.fits(value):
                return "must be a finite number"
        if (value is None and not self.choices) or self.fits(value):
            return ""
        return f"must be {self.wanted}{nearest(str(value), self.choices)}"


@dataclass(frozen=True)
class Relation:
    """What a value must be beside another: `other` is that one's key, beside it or, with a dot, from the root.

    `problem(key, value, other, other's value)` is a sentence, or empty.
    """

    other: str
    problem: Callable[[str, Any, str, Any], str]


Ranges = Mapping[str, Range]
Relations = Mapping[str, Relation]
AddedKeys = Mapping[str, Any]


def number(wanted: str, fits: Callable[[float], bool], most: int | None = None) -> Range:
    """A number for which `fits` is true, and `most` at most."""
    return Range(wanted, lambda value: _is_number(value) and fits(value), most=most)


def whole(least: int, most: int = 10**9) -> Range:
    """A whole number, `least` or more and `most` at most: above all that is of use, below what nothing can hold."""
    return number(
        f"a whole number, {least} or more",
        lambda value: value >= least and (isinstance(value, int) or value.is_integer()),
        most,
    )


def above(bound: float) -> Range:
    """A number above `bound`."""
    return number(f"above {bound:g}", lambda value: value > bound)


def at_least(bound: float) -> Range:
    """A number, `bound` or more."""
    return number(f"{bound:g} or more", lambda value: value >= bound)


def one_of(*choices: str) -> Range:
    """One of some words."""
    return Range(f"one of {', '.join(choices)}", lambda value: value in choices, choices)


def or_auto(one: Range) -> Range:
    """What `one` allows, or "auto": settled by the machine where a run is first made (`ablate/config/settling.py`)."""
    choices = (AUTO, *one.choices)
    wanted = f"one of {', '.join(choices)}" if one.choices else f"{AUTO} or {one.wanted}"
    return Range(wanted, lambda value: value == AUTO or one.fits(value), choices, one.most)


AUTO = "auto"
COUNT = whole(1)
AMOUNT = whole(1, 10**15)  # of tokens or of steps
WIDTH = whole(1, 10**6)  # of a model, of a head; heads
DEPTH = whole(1, 10**4)  # layers, each of which is a module; steps over a layer
VOCABULARY = whole(1, 10**7)
SEED = whole(0, 2**63 - 1)
POSITIVE = above(0)
FRACTION = number("above 0 and at most 1", lambda value: 0 < value <= 1)
PROPER_FRACTION = number("above 0 and below 1", lambda value: 0 < value < 1)
RATE = number("at least 0 and below 1", lambda value: 0 <= value < 1)
FLAG = Range("true, false or null", lambda value: isinstance(value, bool))
PART = number("from 0 to 1", lambda value: 0 <= value <= 1)


def groups_of(other: str) -> Relation:
    """The value, a number of groups, divides the value of `other`."""
    return Relation(
        other,
        lambda key, value, other, whole: (
            f"{other}={whole} do not divide into {key}={value} groups"
            if isinstance(value, int) and isinstance(whole, int) and (value < 1 or whole % value)
            else ""
        ),
    )


def covers(other: str) -> Relation:
    """The value, the longest sequence, is at least that of `other`."""
    return Relation(
        other,
        lambda key, value, other, length: (
            f"{other}={length} is longer than {key}={value}"
            if isinstance(value, int) and isinstance(length, int) and value < length
            else ""
        ),
    )


def halves(other: str) -> Relation:
    """The value, of groups each of which but the first halves the length, goes into that of `other`."""
    return Relation(
        other,
        lambda key, value, other, length: (
            f"{key}={value} halves {other}={length} {value - 1} times; it must be a multiple of {2 ** (value - 1)}"
            if isinstance(value, int) and isinstance(length, int) and length % 2 ** (value - 1)
            else ""
        ),
    )


def required_by(other: str) -> Relation:
    """The value, whether an option keeps documents apart, is true where that of `other` is."""
    return Relation(
        other,
        lambda key, value, other, is_on: (
            f"{other}=true keeps documents apart, and {key}=false reads across their borders; set {key}=true"
            if value is False and is_on
            else ""
        ),
    )


def only_with(other: str) -> Relation:
    """The value acts on what `other` switches on, and is left at false, 0 or null without it."""
    return Relation(
        other,
        lambda key, value, other, is_on: (
            f"{key}={shown(value)} has no effect with {other}={shown(is_on)}" if value and not is_on else ""
        ),
    )


def declared(cls: type, name: str = "ranges") -> dict[str, Any]:
    """The `ranges` (or `relations`) of a class, with those of the classes above it."""
    return {key: value for one in reversed(cls.__mro__) for key, value in vars(one).get(name, {}).items()}


def check(cls: type, group: str, **values: Any) -> None:
    """Raise `UserError` for the first of `values`, keys of a class in a config's `group`, that it does not allow."""
    for key, one in declared(cls).items():
        if key in values and (problem := one.problem(values[key])):
            raise UserError(f"{group}.{key}={values[key]}: {problem}")
    for key, relation in declared(cls, "relations").items():
        if key in values and relation.other in values:
            other = f"{group}.{relation.other}"
            if problem := relation.problem(f"{group}.{key}", values[key], other, values[relation.other]):
                raise UserError(problem)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
