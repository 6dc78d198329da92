"""Learning rates as pure functions of the step (0 for the first).

Schedules that do not know the end of training (inverse square root, constant) count warm-up in steps, so that a shorter
run is a prefix of a longer one. The others (cosine, linear, warmup-stable-decay) give their phases as parts of `steps`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ablate.ranges import AMOUNT, PART, POSITIVE, Ranges


@dataclass(frozen=True)
class InverseSquareRoot:
    """peak * sqrt(timescale / max(step, timescale)) * min(1, step / warmup_steps).

    With peak 0.01, timescale 10,000 and no warm-up it is the 1/sqrt(max(step, 10,000)) of Raffel et al. 2020. With
    warm-up the first step has the rate 0, as in the Adam runs of Narang et al. 2021. ``rate_scale`` multiplies the
    rate and ``step_scale`` both numbers of steps: a small run of a whole sweep has the paper's schedules in miniature,
    whichever of them a row brings along.
    """

    ranges: ClassVar[Ranges] = {
        "peak": POSITIVE,
        "timescale": POSITIVE,
        "warmup_steps": AMOUNT,
        "rate_scale": POSITIVE,
        "step_scale": POSITIVE,
    }

    peak: float
    timescale: int
    warmup_steps: int
    rate_scale: float
    step_scale: float

    def __call__(self, step: int) -> float:
        scaled = step / self.step_scale
        rate = self.rate_scale * self.peak * math.sqrt(self.timescale / max(scaled, self.timescale))
        return rate * min(1.0, scaled / self.warmup_steps) if self.warmup_steps else rate


@dataclass(frozen=True)
class InverseSquareRootDecay(InverseSquareRoot):
    """The same times min(1, (steps - step) / (decay * steps)): a straight line to zero over the last part.

    Shazeer 2020 (https://arxiv.org/abs/2002.05202) decays over the last tenth.
    """

    ranges: ClassVar[Ranges] = {"steps": AMOUNT, "decay": PART}

    steps: int
    decay: float

    def __call__(self, step: int) -> float:
        left = max(0.0, self.steps - step)
        return super().__call__(step) * (min(1.0, left / (self.decay * self.steps)) if self.decay else 1.0)


@dataclass(frozen=True)
class Constant:
    """peak * min(1, step / warmup_steps): the fine-tuning schedule of Narang et al. 2021 with 20,000 warm-up steps."""

    ranges: ClassVar[Ranges] = {"peak": POSITIVE, "warmup_steps": AMOUNT}

    peak: float
    warmup_steps: int

    def __call__(self, step: int) -> float:
        return self.peak * min(1.0, step / self.warmup_steps) if self.warmup_steps else self.peak


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine from `peak` to `final` * peak (Loshchilov and Hutter 2017)."""

    ranges: ClassVar[Ranges] = {"peak": POSITIVE, "steps": AMOUNT, "warmup": PART, "final": PART}

    peak: float
    steps: int
    warmup: float
    final: float

    def __call__(self, step: int) -> float:
        progress = _progress(step, self.steps, self.warmup)
        if progress < 0:
            return self.peak * (1.0 + progress)
        return self.peak * (self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Linear:
    """Linear warm-up, then a straight line from `peak` to `final` * peak."""

    ranges: ClassVar[Ranges] = {"peak": POSITIVE, "steps": AMOUNT, "warmup": PART, "final": PART}

    peak: float
    steps: int
    warmup: float
    final: float

    def __call__(self, step: int) -> float:
        progress = _progress(step, self.steps, self.warmup)
        if progress < 0:
            return self.peak * (1.0 + progress)
        return self.peak * (1.0 - (1.0 - self.final) * progress)


@dataclass(frozen=True)
class WarmupStableDecay:
    """Linear warm-up, a plateau at `peak`, and a straight line to `final` * peak over the last `decay` of the steps.

    Hu et al. 2024 (MiniCPM, https://arxiv.org/abs/2404.06395); Hägele et al. 2024.
    """

    ranges: ClassVar[Ranges] = {"peak": POSITIVE, "steps": AMOUNT, "warmup": PART, "decay": PART, "final": PART}

    peak: float
    steps: int
    warmup: float
    decay: float
    final: float

    def __call__(self, step: int) -> float:
        progress = _progress(step, self.steps, self.warmup)
        if progress < 0:
            return self.peak * (1.0 + progress)
        decay_steps = max(1.0, self.decay * self.steps)
        gone = min(1.0, max(0.0, (step - (self.steps - decay_steps)) / decay_steps))
        return self.peak * (1.0 - (1.0 - self.final) * gone)


def _progress(step: int, steps: int, warmup: float) -> float:
    """-1 to 0 during warm-up (whose first step is not lost: it has 1/warmup_steps), then 0 to 1."""
    warmup_steps = round(warmup * steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps - 1.0
    return min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
