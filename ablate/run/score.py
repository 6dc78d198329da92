"""What an evaluation found: a value, and what has to be known to believe it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ablate.run.json_object import OPTIONAL, DamagedJSON, JSONObject

SPREAD = "_std"  # the ending of the column with the standard deviation of a score over seeds
LARGEST = 1e30  # what a score may be, of either sign
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
class Curve(JSONObject):
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
class Score(JSONObject):
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
    items: int | None = field(default=None, metadata=OPTIONAL)
    standard_error: float | None = field(default=None, metadata=OPTIONAL)
    chance: float | None = field(default=None, metadata=OPTIONAL)
    source: Mapping[str, Any] = field(default_factory=dict, metadata=OPTIONAL)
    outcomes: tuple[float, ...] | None = field(default=None, metadata=OPTIONAL)
    curve: Curve | None = field(default=None, metadata=OPTIONAL)
    exploratory: bool = field(default=False, metadata=OPTIONAL)
    history: Curve | None = field(default=None, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        if self.outcomes is not None:
            object.__setattr__(self, "outcomes", tuple(self.outcomes))

    @property
    def is_finite(self) -> bool:
        """Whether the value is a number that can be compared."""
        return math.isfinite(self.value)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The score that `to_json` wrote; raises `DamagedJSON`, for a number that is not finite too."""
        score = super().from_json(content)
        for key, curve in (("curve", score.curve), ("history", score.history)):
            if curve is not None:
                _check_numbers(f"{key}.xs", curve.xs)
                _check_numbers(f"{key}.ys", curve.ys)
        for key in ("value", "items", "standard_error", "chance"):
            if (value := getattr(score, key)) is not None:
                _check_numbers(key, (value,))
        _check_numbers("outcomes", score.outcomes or ())
        return score


def _check_numbers(key: str, values: Iterable[float]) -> None:
    for value in values:
        if not abs(value) <= LARGEST:
            raise DamagedJSON(f"{key} must be finite, and is {value!r:.40}")
