"""Rotary positions for sequences longer than those of training: angles stretched by a factor.

Each is a table of rates, a function of the settings alone, so that a token's angle does not depend on the length.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from ablate.errors import UserError
from ablate.model.contract import Parts, Place
from ablate.model.position import Rotary
from ablate.ranges import COUNT, POSITIVE, Ranges, at_least


class Linear(Rotary):
    """All angles divided by ``factor`` (Chen et al. 2023, https://arxiv.org/abs/2306.15595; Gemma 3's full layers)."""

    ranges: ClassVar[Ranges] = {"factor": at_least(1)}
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, factor: float, **settings: Any):
        super().__init__(parts, place, **settings)
        self.factor = factor

    def rates(self, device: torch.device) -> Tensor:
        return super().rates(device) / self.factor


class NTK(Rotary):
    """The base times factor^(n / (n - 2)) for n channels: the slowest pair is slowed by ``factor``, the fastest not.

    ("NTK-aware scaling", bloc97 2023.) transformers' `dynamic` type has this table with factor (f L / l) - (f - 1), for
    its own factor f, a length L and the trained one l. Raises UserError for 2 channels, of which nothing is slowed.
    """

    ranges: ClassVar[Ranges] = {"factor": at_least(1)}
    incremental = True

    def __init__(self, parts: Parts, place: Place, *, factor: float, **settings: Any):
        super().__init__(parts, place, **settings)
        if self.width == 2:
            raise UserError("position=rope_ntk slows all pairs of channels but the first, so it needs more than 2")
        self.base *= factor ** (self.width / (self.width - 2))


class YaRN(Rotary):
    """Pairs are divided by ``factor`` as far as they are slow (Peng et al. 2023, https://arxiv.org/abs/2309.00071).

    Pairs that turn ``beta_fast`` times or more in ``original_length`` tokens are kept, those that turn ``beta_slow``
    times or less are divided, with a linear ramp over the pairs between. Queries and keys are multiplied by
    ``magnitude_factor``, by default 0.1 ln factor + 1.
    """

    ranges: ClassVar[Ranges] = {
        "factor": at_least(1),
        "original_length": COUNT,
        "beta_fast": POSITIVE,
        "beta_slow": POSITIVE,
        "magnitude_factor": POSITIVE,
    }
    incremental = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        factor: float,
        original_length: int,
        beta_fast: float,
        beta_slow: float,
        magnitude_factor: float | None,
        **settings: Any,
    ):
        super().__init__(parts, place, **settings)
        if beta_slow > beta_fast:
            raise UserError(f"position.beta_slow={beta_slow:g}: must be at most position.beta_fast={beta_fast:g}")
        self.factor, self.original_length = factor, original_length
        self.beta_fast, self.beta_slow, self.magnitude_factor = beta_fast, beta_slow, magnitude_factor

    def rates(self, device: torch.device) -> Tensor:
        kept = super().rates(device)
        first = max(math.floor(self._pair(self.beta_fast)), 0)
        last = min(math.ceil(self._pair(self.beta_slow)), self.width - 1)
        step = torch.arange(self.width // 2, device=device).float()
        divided = ((step - first) / max(last - first, 0.001)).clamp(0, 1)  # how far each pair is
        return kept / self.factor * divided + kept * (1 - divided)

    def _pair(self, turns: float) -> float:
        """The pair, as a fraction, that turns so often in the original length: T base^(-2i/n) = 2 pi turns."""
        return self.width * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(self.base))

    def magnitude(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0 if self.magnitude_factor is None else self.magnitude_factor


class Llama3(Rotary):
    """Llama 3.1's scaling (Grattafiori et al. 2024, https://arxiv.org/abs/2407.21783).

    Pairs that turn less than ``low_frequency_factor`` times in ``original_length`` tokens are divided by ``factor``,
    those that turn more than ``high_frequency_factor`` times are kept, and those between are interpolated.
    """

    ranges: ClassVar[Ranges] = {
        "factor": at_least(1),
        "original_length": COUNT,
        "low_frequency_factor": POSITIVE,
        "high_frequency_factor": POSITIVE,
    }
    incremental = True

    def __init__(
        self,
        parts: Parts,
        place: Place,
        *,
        factor: float,
        original_length: int,
        low_frequency_factor: float,
        high_frequency_factor: float,
        **settings: Any,
    ):
        super().__init__(parts, place, **settings)
        if low_frequency_factor >= high_frequency_factor:
            raise UserError(
                f"position.low_frequency_factor={low_frequency_factor:g}: must be below "
                f"position.high_frequency_factor={high_frequency_factor:g}"
            )
        self.factor, self.original_length = factor, original_length
        self.low, self.high = low_frequency_factor, high_frequency_factor

    def rates(self, device: torch.device) -> Tensor:
        kept = super().rates(device)
        turns = self.original_length * kept / (2 * math.pi)
        smooth = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - smooth) * kept / self.factor + smooth * kept
