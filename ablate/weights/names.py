"""Weights by the names of another library: how each of its tensors follows from our parameters, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablate.errors import UserError, nearest


@dataclass(frozen=True)
class Weight:
    """A tensor of the other library: `out` makes it from `parameters`, `into` is the inverse.

    `optional`: may be left out, because other names stand for the same parameters.
    """

    parameters: tuple[nn.Parameter, ...]
    out: Callable[[Sequence[Tensor]], Tensor]
    into: Callable[[Tensor], Sequence[Tensor]]
    optional: bool = False

    def exported(self) -> Tensor:
        """The other library's tensor; may share memory with the parameters."""
        return self.out([parameter.detach() for parameter in self.parameters])


Names = dict[str, Weight]


def exported(names: Names) -> dict[str, Tensor]:
    """The other library's state dict: copies, on the device and in the precision of the model."""
    return {key: weight.exported().clone().contiguous() for key, weight in names.items()}


def once(names: Names) -> Names:
    """Without the tensors that are the same parameters as one before, as files have them."""
    kept: dict[tuple[int, ...], str] = {}
    for name, weight in names.items():
        kept.setdefault(tuple(map(id, weight.parameters)), name)
    return {name: names[name] for name in kept.values()}


@torch.no_grad()
def load(names: Names, state: Mapping[str, Tensor], ignored: Collection[str] = ()) -> None:
    """Copy the tensors of `state` into the parameters; all or, where one does not fit, none.

    `ignored`: regular expressions of keys that may be there and mean nothing. Raises UserError, in one line that names
    the key: for one that is missing, one that is not expected, a wrong shape, something that holds no real numbers, and
    two tensors that differ where the model has one parameter for both.
    """
    for key in state:
        if key not in names and not any(re.fullmatch(pattern, key) for pattern in ignored):
            raise UserError(f"the weights have {key}, for which the model has no place{nearest(key, names)}")
    found: dict[int, str] = {}  # parameter -> the key that it is loaded from
    for key, weight in names.items():
        if key in state:
            _check_shape(key, weight, state[key])
            _check_equal(key, names, state, found)
    for key, weight in names.items():
        if key not in state and not (weight.optional and all(id(one) in found for one in weight.parameters)):
            raise UserError(f"the weights lack {key}")
    for key in dict.fromkeys(found.values()):
        weight = names[key]
        for parameter, value in zip(weight.parameters, weight.into(state[key]), strict=True):
            parameter.copy_(value)


def _check_equal(key: str, names: Names, state: Mapping[str, Tensor], found: dict[int, str]) -> None:
    """Refuse a tensor that differs from an earlier one for the same parameters; note which are `found` by this one."""
    weight = names[key]
    for index, parameter in enumerate(weight.parameters):
        first = found.setdefault(id(parameter), key)
        if first == key:
            continue
        earlier = dict(zip(map(id, names[first].parameters), names[first].into(state[first]), strict=True))
        if not torch.equal(weight.into(state[key])[index], earlier[id(parameter)]):
            raise UserError(f"the weights {first} and {key} differ, and the model has one parameter for both")


def _check_shape(key: str, weight: Weight, tensor: Any) -> None:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError(f"the weights {key} must be a tensor of real numbers, not {kind}")
    wanted = weight.exported().shape
    if tensor.shape != wanted:
        raise UserError(f"the weights {key} have the shape {tuple(tensor.shape)}, and the model needs {tuple(wanted)}")


def check_complete(model: nn.Module, names: Names, form: str) -> None:
    """Raise UserError for a parameter of the model for which the other library has no name."""
    known = {id(parameter) for weight in names.values() for parameter in weight.parameters}
    for name, parameter in model.named_parameters():
        if id(parameter) not in known:
            raise UserError(f"{form} has no weight that is like this model's {name}")
