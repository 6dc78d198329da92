"""Weights by the names of another library: how each of its tensors follows from one of our parameters, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablate.errors import UserError, nearest

Convert = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """x itself."""
    return x


@dataclass(frozen=True)
class Weight:
    """A tensor of the other library: `out` makes it from `parameter`, `into` is the inverse.

    `optional`: may be left out, because other names stand for the same parameter.
    """

    parameter: nn.Parameter
    out: Convert = same
    into: Convert = same
    optional: bool = False


Names = dict[str, Weight]


def exported(names: Names) -> dict[str, Tensor]:
    """The other library's state dict: copies, on the device and in the precision of the model."""
    return {key: weight.out(weight.parameter.detach()).clone() for key, weight in names.items()}


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
            first = found.setdefault(id(weight.parameter), key)
            if first != key and not torch.equal(weight.into(state[key]), names[first].into(state[first])):
                raise UserError(f"the weights {first} and {key} differ, and the model has one parameter for both")
    for key, weight in names.items():
        if key not in state and not (weight.optional and id(weight.parameter) in found):
            raise UserError(f"the weights lack {key}")
    for key in found.values():
        names[key].parameter.copy_(names[key].into(state[key]))


def _check_shape(key: str, weight: Weight, tensor: Any) -> None:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError(f"the weights {key} must be a tensor of real numbers, not {kind}")
    wanted = weight.out(weight.parameter).shape
    if tensor.shape != wanted:
        raise UserError(f"the weights {key} have the shape {tuple(tensor.shape)}, and the model needs {tuple(wanted)}")


def check_complete(model: nn.Module, names: Names, form: str) -> None:
    """Raise UserError for a parameter of the model for which the other library has no name."""
    known = {id(weight.parameter) for weight in names.values()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in known:
            raise UserError(f"{form} has no weight that is like this model's {name}")


def require(holds: bool, form: str, what: str) -> None:
    """Raise UserError if the model does not have the form: `what` it would need."""
    if not holds:
        raise UserError(f"the model does not have {form}: it needs {what}")


def as_mapping(config: Any, form: str, model_type: str) -> Mapping[str, Any]:
    """A config of `transformers`, given as an object or as what its config.json holds; UserError for another model."""
    content = config if isinstance(config, Mapping) else config.to_dict()
    if (kind := content.get("model_type")) != model_type:
        raise UserError(f"model_type={kind}: {form} is that of model_type={model_type}")
    return content


def number(config: Mapping[str, Any], key: str) -> Any:
    """A value that the config must have; UserError if it has not."""
    if config.get(key) is None:
        raise UserError(f"the config lacks {key}")
    return config[key]
