"""Adafactor as Narang et al. 2021 trained with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

# How many elements are stacked to one tensor, matrices of one shape, and how many updates wait to be applied at once.
# On a GPU as many as memory allows: few kernels. On a CPU as many as its cache holds from the gradient to the update;
# small matrices share calls, and a large one comes alone and is not copied. Each choice gives the same bits.
AT_ONCE = 1 << 25
AT_ONCE_CPU = 1 << 20


class Adafactor(torch.optim.Optimizer):
    """Adafactor (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235), no momentum, as mesh-tensorflow runs it.

    The second moment of a parameter whose two largest axes have at least `factored_from` entries is kept as the means
    over either axis. An update is divided by max(1, its RMS / `clip_threshold`) and multiplied by the learning rate
    and by max(RMS of the parameter, `parameter_epsilon`): the learning rate is relative, and a parameter that starts
    at zero moves by at most lr * `parameter_epsilon` a step.

    `lr` is set anew in `param_groups` before each step by the schedule. Parameters are float32.
    """

    relative_steps: ClassVar[bool] = True  # its learning rate is a part of the parameter, not an amount

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.0,
        decay_exponent: float = 0.8,
        clip_threshold: float = 1.0,
        factored_from: int = 128,
        gradient_epsilon: float = 1e-30,
        parameter_epsilon: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "decay_exponent": decay_exponent,
            "clip_threshold": clip_threshold,
            "factored_from": factored_from,
            "gradient_epsilon": gradient_epsilon,
            "parameter_epsilon": parameter_epsilon,
            "step": 0,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # evaluates no closure
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            group["step"] += 1
            decay = 1.0 - group["step"] ** -group["decay_exponent"]
            whole: list[Tensor] = []
            alike: dict[tuple[torch.Size, tuple[int, int], torch.device], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                axes = factored_axes(parameter.shape, group["factored_from"])
                if axes is None:
                    whole.append(parameter)
                else:
                    alike.setdefault((parameter.shape, axes, parameter.device), []).append(parameter)

            pending = Pending(group)
            if whole:
                pending.add(whole, self._whole_updates(whole, decay, group["gradient_epsilon"]))
            for (shape, axes, device), matrices in alike.items():
                for stack in _stacks(matrices, shape, device):
                    pending.add(stack, self._factored_updates(stack, axes, decay, group["gradient_epsilon"]))
            pending.apply()

    def _whole_updates(self, parameters: list[Tensor], decay: float, epsilon: float) -> list[Tensor]:
        """Gradients over the root of a second moment kept entry by entry."""
        gradients = _gradients(parameters)
        moments = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["square"] = torch.zeros_like(parameter)
            moments.append(state["square"])
        squares = torch._foreach_mul(gradients, gradients)
        torch._foreach_lerp_(moments, squares, 1.0 - decay)
        torch._foreach_clamp_min_(moments, epsilon)  # what adding it to the squares comes to, in a quarter of the time
        torch._foreach_copy_(squares, moments)
        torch._foreach_sqrt_(squares)
        return list(torch._foreach_div(gradients, list(squares)))

    def _factored_updates(
        self, parameters: list[Tensor], axes: tuple[int, int], decay: float, epsilon: float
    ) -> list[Tensor]:
        """Gradients over the root of a second moment kept as means over either axis; parameters of one shape."""
        first, second = axes[0] + 1, axes[1] + 1  # behind the axis of the stack
        gradients = _stacked(_gradients(parameters))
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["row"] = parameter.new_zeros(gradients.shape[1:second] + gradients.shape[second + 1 :])
                state["column"] = parameter.new_zeros(gradients.shape[1:first] + gradients.shape[first + 1 :])
        squares = gradients.square().add_(epsilon)
        rows = [self.state[parameter]["row"] for parameter in parameters]
        columns = [self.state[parameter]["column"] for parameter in parameters]
        torch._foreach_lerp_(rows, list(squares.mean(second).unbind()), 1.0 - decay)
        torch._foreach_lerp_(columns, list(squares.mean(first).unbind()), 1.0 - decay)
        row, column = _stacked(rows), _stacked(columns)
        row = (row / row.mean(first, keepdim=True)).rsqrt_()  # the first axis comes before the second, which is gone
        target = squares if len(parameters) == 1 else gradients  # a single gradient is the parameter's own
        updates = torch.mul(gradients, row.unsqueeze(second), out=target).mul_(column.rsqrt().unsqueeze(first))
        return list(updates.unbind())


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _at_once(device: torch.device) -> int:
    return AT_ONCE_CPU if device.type == "cpu" else AT_ONCE


def _stacks(matrices: list[Tensor], shape: torch.Size, device: torch.device) -> Iterator[list[Tensor]]:
    """`matrices`, all of one shape, in lists of those that are stacked."""
    size = max(1, _at_once(device) // math.prod(shape))
    return (matrices[start : start + size] for start in range(0, len(matrices), size))


def _stacked(tensors: list[Tensor]) -> Tensor:
    """`tensors` along a new first axis; a single one is not copied."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


@cache
def factored_axes(shape: torch.Size, factored_from: int) -> tuple[int, int] | None:
    """The two largest axes of `shape` in ascending order, or None where the second is below `factored_from`."""
    if len(shape) < 2:
        return None
    largest = sorted(range(len(shape)), key=lambda axis: -shape[axis])[:2]
    if shape[largest[1]] < factored_from:
        return None
    return min(largest), max(largest)


class Pending:
    """Updates of a group that wait to be applied together."""

    def __init__(self, group: dict) -> None:
        self.group = group
        self.parameters: list[Tensor] = []
        self.updates: list[Tensor] = []
        self.elements = 0

    def add(self, parameters: list[Tensor], updates: list[Tensor]) -> None:
        """Take up updates; apply all if they are many."""
        self.parameters += parameters
        self.updates += updates
        self.elements += sum(map(Tensor.numel, updates))
        if self.elements >= _at_once(updates[0].device):
            self.apply()

    def apply(self) -> None:
        """Apply what waits."""
        if self.parameters:
            _apply(self.parameters, self.updates, self.group)
        self.parameters, self.updates, self.elements = [], [], 0


def _apply(parameters: list[Tensor], updates: list[Tensor], group: dict) -> None:
    """Clip the updates by their RMS, scale them by the RMS of their parameters and subtract them."""
    roots = [max(1, parameter.numel()) ** 0.5 for parameter in parameters]
    norms = torch._foreach_norm(parameters) + torch._foreach_norm(updates)
    rms = torch.stack(
        torch._foreach_div(norms, roots + roots)
    )  # numbers, not a tensor: a device would wait for its copy
    parameter_rms, update_rms = rms.split(len(parameters))
    scale = parameter_rms.clamp_min_(group["parameter_epsilon"]).mul_(-group["lr"])
    scale /= (update_rms / group["clip_threshold"]).clamp_min_(1.0)
    torch._foreach_addcmul_(parameters, updates, list(scale.unbind()))
