"""What training steps spend their time on, of one or two configurations in turn, as `ablate profile` stores it.

profile.json  {"schema", "made": where and with what, "variants": [{"label", "overrides", "flops_per_step", "rounds":
              [{"step_seconds", "processor_seconds", "watched_seconds", "work": {class: [seconds, operations]}}]}]},
              all numbers of one step
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import UserError
from ablate.run import json_text
from ablate.statistics.speed_ratio import SpeedRatio, speed_ratio
from ablate.training.work import COMPUTING, CONTRACTION

FILE = "profile.json"
SCHEMA = 1


@dataclass(frozen=True)
class ProfiledVariant:
    """A configuration, as its rounds found it; numbers are of one step, medians over the rounds."""

    label: str
    overrides: tuple[str, ...]
    flops_per_step: int
    rounds: tuple[dict[str, Any], ...]

    def seconds(self, kind: str) -> float:
        """Of a class of work, while the profiler watched."""
        return self._median(lambda one: one["work"][kind][0])

    def operations(self, kind: str) -> int:
        count: int = self.rounds[0]["work"][kind][1]
        return count

    def operation_share(self, kind: str) -> float:
        """Of the operations of the classes that compute."""
        return self.operations(kind) / sum(map(self.operations, COMPUTING))

    def time_share(self, kind: str) -> float:
        """Of the time of the classes that compute, in each round."""
        return self._median(lambda one: one["work"][kind][0] / sum(one["work"][other][0] for other in COMPUTING))

    def step_share(self, kind: str) -> float:
        """Of a whole step that the profiler watched."""
        return self._median(lambda one: one["work"][kind][0] / one["watched_seconds"])

    @property
    def step_seconds(self) -> float:
        """Of a step that the profiler did not watch."""
        return self._median(lambda one: one["step_seconds"])

    @property
    def watched_seconds(self) -> float:
        return self._median(lambda one: one["watched_seconds"])

    def _median(self, number: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(number, self.rounds))

    @property
    def counted_ratio(self) -> float:
        """Operations of products that the profiler saw over those that `ablate cost` counts: 1 where both are right."""
        return self.operations(CONTRACTION) / self.flops_per_step


@dataclass(frozen=True)
class Profile:
    """One variant, or two that were measured in turn; `made` says where and with what."""

    made: dict[str, Any]
    variants: tuple[ProfiledVariant, ...]

    @property
    def uses_processor_time(self) -> bool:
        """Whether steps are compared by the processor's time, which other load leaves alone: on a CPU's one thread."""
        return bool(self.made["kind"] == "cpu" and self.made["threads"] == 1)

    def step_speedup(self) -> SpeedRatio:
        """How many times as fast a step of the second variant is as one of the first."""
        key = "processor_seconds" if self.uses_processor_time else "step_seconds"
        return self._speedup(lambda one: one[key])

    def class_speedup(self, kind: str) -> SpeedRatio:
        """The same of a class of work in it."""
        return self._speedup(lambda one: one["work"][kind][0])

    def _speedup(self, seconds: Callable[[dict[str, Any]], float]) -> SpeedRatio:
        first, second = ([1 / seconds(one) for one in variant.rounds] for variant in self.variants)
        return speed_ratio(second, first)


def from_json(content: dict[str, Any]) -> Profile:
    variants = tuple(
        ProfiledVariant(one["label"], tuple(one["overrides"]), one["flops_per_step"], tuple(one["rounds"]))
        for one in content["variants"]
    )
    return Profile(content["made"], variants)


def read(folder: Path) -> Profile:
    """The profile that is stored in a folder; raises `UserError` where there is none that can be read."""
    file = folder / FILE
    try:
        content = json_text.read(file)
        if content["schema"] != SCHEMA:
            raise UserError(f"{file}: made by another version (schema {content['schema']}, not {SCHEMA})")
        return from_json(content)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: is not a profile ({error})") from None
