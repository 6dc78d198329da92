"""AdamW: torch's own, fused into one kernel where the device has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from ablate.ranges import POSITIVE, Ranges


class AdamW(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101); vectors and scalars are not decayed.

    `parameters` are tensors, or groups of them as torch's optimizers take them; a group is cut in two.
    """

    ranges: ClassVar[Ranges] = {"epsilon": POSITIVE}

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.95,
        epsilon: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        groups = decayed(parameters, weight_decay)
        fused = all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])
        super().__init__(groups, lr=lr, betas=(beta1, beta2), eps=epsilon, fused=fused)


def decayed(parameters: Iterable[Tensor] | Iterable[dict[str, Any]], weight_decay: float) -> list[dict[str, Any]]:
    """The parameters in groups, those of matrices with `weight_decay` and the others without."""
    given: list[Any] = list(parameters)
    groups: list[dict[str, Any]] = []
    for group in given if given and isinstance(given[0], dict) else [{"params": given}]:
        members = list(group["params"])
        matrices = [parameter for parameter in members if parameter.ndim >= 2]
        others = [parameter for parameter in members if parameter.ndim < 2]
        groups += [{**group, "params": matrices, "weight_decay": weight_decay}] if matrices else []
        groups += [{**group, "params": others, "weight_decay": 0.0}] if others else []
    return groups
