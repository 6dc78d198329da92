"""Adam as Narang et al. 2021 trained the rows that Adafactor did not suit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ablate.ranges import POSITIVE, Ranges


class Adam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980) without bias correction, as mesh-tensorflow runs it.

    The step is lr * m / (sqrt(v) + epsilon), with m and v starting at zero. `lr` is set anew in `param_groups` before
    each step by the schedule. Parameters are float32.
    """

    ranges: ClassVar[Ranges] = {"epsilon": POSITIVE}

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": epsilon})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # evaluates no closure
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            means, squares = [], []
            for parameter in parameters:
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
                means.append(state["mean"])
                squares.append(state["square"])
            gradients = [parameter.grad for parameter in parameters]
            torch._foreach_lerp_(means, gradients, 1.0 - group["beta1"])
            torch._foreach_mul_(squares, group["beta2"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - group["beta2"])
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, group["epsilon"])
            torch._foreach_addcdiv_(parameters, means, roots, -group["lr"])
