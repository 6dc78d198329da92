"""What an evaluation found: a value, and what has to be known to believe it."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SPREAD = "_std"  # the ending of the column with the standard deviation of a score over seeds
LARGEST = 1e30  # what a score may be, of either sign
CURVES = ("curve", "history")  # fields of a score that are curves
STEP = "step"  # the x of a history

# Columns that tables of runs and of rows have anyway, and kinds of curves: no score may have one of these names.
COLUMNS = frozenset(
    {
        *("row", "section", "seed", "status", "runs", "verdict", "delta", "delta_low", "delta_high", "p_adjusted"),
        *("parameters", "parameters_non_embedding", "parameters_active", "ops_paper", "flops_per_step"),
        *("steps_per_second", "steps_per_second_p25", "steps_per_second_p75", "steps_per_second_exclusive"),
        *("speed_ratio", "speed_ratio_low", "speed_ratio_high", "timing_rounds"),
        *("tokens_per_second", "mfu", "peak_memory_bytes", "early_step", "final_step", "bits_per_byte"),
        *("early_loss", "early_loss_std", "final_loss", "final_loss_std", "seconds", "attempts"),
        *("identity", "data", "data_sha256", "device", "git", "torch", "reason", "overrides", "against"),
        *("train", "validation", "gradient_norm"),
    }
)


@dataclass(frozen=True)
class Curve:
    """A score as a function of something: `ys` at `xs`, whose name and unit `x` says."""

    x: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "xs", tuple(self.xs))
        object.__setattr__(self, "ys", tuple(self.ys))
        if len(self.xs) != len(self.ys):
            raise ValueError(f"a curve has as many xs as ys, not {len(self.xs)} and {len(self.ys)}")


@dataclass(frozen=True)
class Score:
    """One number of an evaluation.

    value: the score itself, in `unit` ("nats a token", "accuracy", "BLEU", "ms").
    higher_is_better: the direction in which a difference is a gain.
    items: how many things were judged; standard_error: of `value` over them; chance: what guessing would score.
    source: what was judged with, such as {"sha256": ..., "version": ...}: no part of any hash. A report compares scores
        of the same items only, and says what else it finds there (docs/evaluations.md).
    outcomes: one number an item, in a fixed order, for paired comparisons between models.
    curve: the score by something else, such as the position in the sequence.
    exploratory: whether it is one task of several, or a secondary figure of one. The others, averages and the one
        figure of an evaluation, are primary: a report tests them as a family of their own.
    history: the score by the step of training after which it was taken, the last step of the run included; None where
        it was taken at the end alone.
    """

    value: float
    unit: str
    higher_is_better: bool
    items: int | None = None
    standard_error: float | None = None
    chance: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict)
    outcomes: tuple[float, ...] | None = None
    curve: Curve | None = None
    exploratory: bool = False
    history: Curve | None = None

    def __post_init__(self) -> None:
        if self.outcomes is not None:
            object.__setattr__(self, "outcomes", tuple(self.outcomes))

    @property
    def is_finite(self) -> bool:
        """Whether the value is a number that can be compared."""
        return math.isfinite(self.value)

    def to_json(self) -> dict[str, Any]:
        """The score as plain JSON; what does not apply is left out."""
        content = asdict(self)
        content["exploratory"] = self.exploratory or None
        if self.outcomes is not None:
            content["outcomes"] = list(self.outcomes)
        for key in CURVES:
            if (curve := getattr(self, key)) is not None:
                content[key] = {"x": curve.x, "xs": list(curve.xs), "ys": list(curve.ys)}
        return {key: value for key, value in content.items() if value is not None and value != {}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Score:
        """The score that `to_json` wrote; keys that are not known here are left out."""
        known = {key: content[key] for key in cls.__dataclass_fields__ if key in content}
        for key in CURVES:
            if isinstance(curve := known.get(key), Mapping):
                known[key] = Curve(str(curve["x"]), _numbers(curve["xs"]), _numbers(curve["ys"]))
        if known.get("outcomes") is not None:
            known["outcomes"] = _numbers(known["outcomes"])
        score = cls(**known)
        score._check()
        return score

    def _check(self) -> None:
        """Raise ValueError for a value of another type."""
        if not _is_number(self.value):
            raise ValueError(f"value must be a finite number, and is {self.value!r:.40}")
        for key in ("items", "standard_error", "chance"):
            if getattr(self, key) is not None and not _is_number(getattr(self, key)):
                raise ValueError(f"{key} must be a finite number, and is {getattr(self, key)!r:.40}")
        for key, kind, word in _TYPES:
            if not isinstance(getattr(self, key), kind):
                raise ValueError(f"{key} must be {word}, and is {getattr(self, key)!r:.40}")
        if not isinstance(self.source, Mapping):
            raise ValueError("source must be a mapping")
        for key in CURVES:
            if not isinstance(getattr(self, key), (Curve, types.NoneType)):
                raise ValueError(f"{key} must be a mapping")


_TYPES = (
    ("unit", str, "a string"),
    ("higher_is_better", bool, "true or false"),
    ("exploratory", bool, "true or false"),
)


def _numbers(values: Any) -> tuple[float, ...]:
    """The numbers as they are: a whole number is written as one again."""
    if not isinstance(values, (list, tuple)) or not all(map(_is_number, values)):
        raise ValueError("must be a list of finite numbers")
    return tuple(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
