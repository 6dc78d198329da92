"""What the processes of a run tell one another while they evaluate: sums, failures, and that one leaves.

Every process calls these at the same places. One that fails, or leaves because the run was requested to stop, says so
where the others wait for it next, so that none waits for ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from ablate.evaluation.contract import CollectiveError, Context, FailedElsewhere, StopRequested


def check_stop(context: Context, is_requested: Callable[[], bool]) -> None:
    """Raise `StopRequested` in all processes where one was requested to stop."""
    if context.any_process(is_requested()):
        raise StopRequested


def leaving_together(context: Context, is_requested: Callable[[], bool]) -> Context:
    """The context in which each of several processes may leave an evaluation, as the others learn of it.

    One that leaves says so where it meets the others next, which then leave as well: see `Context.attempted`.
    """
    if context.world_size == 1:
        return context

    def any_of(flag: bool) -> bool:
        return any_process(flag, context.device, is_requested())

    def total(sums: Tensor) -> Tensor:
        return sum_over_processes(sums, is_requested())

    return dataclasses.replace(context, stop=is_requested, any_process=any_of, total=total)


def any_process(flag: bool, device: torch.device, leaves: bool = False) -> bool:
    """Whether a flag is true in any process; raises `StopRequested`, in all of them, where any `leaves`."""
    flags, leaving = _all_reduced(torch.tensor([float(flag), float(leaves)], device=device)).tolist()
    if leaving > 0:
        raise StopRequested(is_agreed=True)
    return bool(flags > 0)


def sum_over_processes(sums: Tensor, leaves: bool = False) -> Tensor:
    """`Context.total` of several processes; raises `FailedElsewhere` where the evaluation has failed in another.

    One that has failed says so by `Context.any_process`, which the others meet here, before they wait for its sums.
    """
    if any_process(False, sums.device, leaves):
        raise FailedElsewhere
    return _all_reduced(sums)


def _all_reduced(tensor: Tensor) -> Tensor:
    try:
        torch.distributed.all_reduce(tensor)
    except Exception as error:
        raise CollectiveError(str(error)) from error
    return tensor
