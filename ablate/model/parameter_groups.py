"""Parameters with a learning rate of their own, or trained for a fraction of the steps only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ablate.errors import UserError, nearest

KEYS = ("parameters", "times", "until")
Group = dict[str, Any]


def groups(model: nn.Module, own_rates: Iterable[dict[str, Any]], steps: int) -> list[Group]:
    """The parameters of `model` as an optimizer's groups: those that follow the schedule, then one group an entry.

    An entry `{parameters: "*.kappa", times: 0.1, until: 0.96}` takes the parameters whose names match the glob; their
    learning rate is `times` (1) the schedule's, and 0 after a fraction `until` (1) of `steps`. If several entries match
    a parameter, the first applies. Raises `UserError` for a malformed entry, and for one that matches nothing.
    """
    entries = [_checked(number, entry) for number, entry in enumerate(own_rates)]
    named = dict(model.named_parameters())
    for number, entry in enumerate(entries):
        if not any(fnmatchcase(name, entry["parameters"]) for name in named):
            pattern = entry["parameters"]
            close = nearest(pattern.lstrip("*."), {name.rpartition(".")[2] for name in named} | set(named))
            raise UserError(f"own_rates[{number}].parameters={pattern}: no parameter has such a name{close}")
    common: Group = {"params": [], "times": 1.0, "last_step": steps}
    own: list[Group] = [
        {"params": [], "times": entry["times"], "last_step": round(entry["until"] * steps)} for entry in entries
    ]
    for name, parameter in named.items():
        matching = (group for entry, group in zip(entries, own, strict=True) if fnmatchcase(name, entry["parameters"]))
        next(matching, common)["params"].append(parameter)
    return [group for group in (common, *own) if group["params"]]


def set_rate(param_groups: Sequence[Group], rate: float, step: int) -> None:
    """Set each group's learning rate for `step` (0 for the first), given the schedule's `rate`."""
    for group in param_groups:
        group["lr"] = rate * group["times"] if step < group["last_step"] else 0.0


def _checked(number: int, entry: Any) -> dict[str, Any]:
    """The entry with its defaults; raises `UserError` if it is malformed."""
    name = f"own_rates[{number}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("parameters"), str):
        raise UserError(f"{name}={entry}: must look like {{parameters: '*.kappa', times: 0.1, until: 0.96}}")
    if wrong := [key for key in entry if key not in KEYS]:
        raise UserError(f"{name}.{wrong[0]}: no such key{nearest(str(wrong[0]), KEYS)}")
    checked: dict[str, Any] = {"times": 1.0, "until": 1.0, **entry}
    for key, highest, valid in (("times", float("inf"), "0 or more"), ("until", 1.0, "from 0 to 1")):
        value = checked[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= highest:
            raise UserError(f"{name}.{key}={value}: must be a number, {valid}")
    return checked
