"""Running averages of what a model sees in training, such as the statistics of batch normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningAverages:
    """The buffers that modules name in `running` and move in each forward pass of training.

    Each of the `count` slices of a global batch moves them from where the step began, and the step moves them to the
    mean of where the slices did. So they depend on the size of a slice, but not on which device has it or in which
    order, and a step that is skipped leaves them as they are.
    """

    def __init__(self, model: nn.Module, count: int):
        self.names = [(module, name) for module in model.modules() for name in getattr(module, "running", ())]
        self.count = count

    @property
    def buffers(self) -> list[Tensor]:
        """Looked up each time: a model that moves to a device has others."""
        return [getattr(module, name) for module, name in self.names]

    def begin(self) -> None:
        """A step begins."""
        self._before = [buffer.clone() for buffer in self.buffers]
        self._sums = [torch.zeros_like(buffer) for buffer in self.buffers]

    def take(self) -> None:
        """A slice has moved them."""
        for buffer, before, total in zip(self.buffers, self._before, self._sums, strict=True):
            total.add_(buffer)
            buffer.copy_(before)

    def move(self, is_alone: bool) -> None:
        """The step is taken, by all processes."""
        for buffer, total in zip(self.buffers, self._sums, strict=True):
            if not is_alone:
                torch.distributed.all_reduce(total)
            buffer.copy_(total.div_(self.count))
