"""What is said of a model that starts far from a uniform guess over its vocabulary, whose loss is ln V."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ablate.model.norm import Norm

FAR = 2.0  # times ln V; initial values that fit give 1.0 to 1.4


class FirstLoss:
    """Given the rows of metrics, warns of a first loss that is far above ln V (nats a target)."""

    def __init__(self, model: nn.Module, vocab_size: int, say: Callable[[str], None]) -> None:
        self.uniform, self.say = math.log(vocab_size), say
        cautions = {module.caution: None for module in model.modules() if isinstance(module, Norm) and module.caution}
        self.cautions = "".join(f"; {caution}" for caution in cautions)

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Take a row of metrics."""
        loss = row["loss"]
        if row["step"] == 1 and row["kind"] == "train" and loss > FAR * self.uniform:
            self.say(
                f"warning: the first loss is {loss:.4g} nats a token, and a uniform guess has {self.uniform:.4g}: "
                f"the initial values do not fit this model{self.cautions}"
            )

    def explained(self, diverged: str, step: int) -> str:
        """Why no step could be taken, with what helps where not one could."""
        return f"{diverged}{self.cautions}" if diverged and not step else diverged
