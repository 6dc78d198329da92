"""Parameters with a learning rate of their own, or trained for a part of the steps only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ablate.errors import UserError, nearest
from ablate.ranges import PART, Ranges, at_least

KEYS = ("parameters", "lr_multiplier", "until_fraction")
RANGES: Ranges = {"lr_multiplier": at_least(0), "until_fraction": PART}

Group = dict[str, Any]


def groups(model: nn.Module, parameter_groups: Iterable[dict[str, Any]], steps: int) -> list[Group]:
    """The parameters of `model` as an optimizer's groups: those that follow the schedule, then a group an entry.

    An entry `{parameters: "*.kappa", lr_multiplier: 0.1, until_fraction: 0.96}` takes the parameters whose names
    match the glob; their rate is `lr_multiplier` (1) times the schedule's, and 0 after the part `until_fraction` (1) of
    `steps`. Of entries that match the same parameter the first counts. Raises `UserError` for an entry that is not so,
    or that matches nothing.
    """
    entries = [_checked(number, entry) for number, entry in enumerate(parameter_groups)]
    named = dict(model.named_parameters())
    for number, entry in enumerate(entries):
        if not any(fnmatchcase(name, entry["parameters"]) for name in named):
            pattern = entry["parameters"]
            close = nearest(pattern.lstrip("*."), {name.rpartition(".")[2] for name in named} | set(named))
            raise UserError(f"parameter_groups[{number}].parameters={pattern}: no parameter has such a name{close}")
    common: Group = {"params": [], "lr_multiplier": 1.0, "last_step": steps}
    own: list[Group] = [
        {"params": [], "lr_multiplier": entry["lr_multiplier"], "last_step": round(entry["until_fraction"] * steps)}
        for entry in entries
    ]
    for name, parameter in named.items():
        matching = (group for entry, group in zip(entries, own, strict=True) if fnmatchcase(name, entry["parameters"]))
        next(matching, common)["params"].append(parameter)
    return [group for group in (common, *own) if group["params"]]


def set_rate(param_groups: Sequence[Group], rate: float, step: int) -> None:
    """Give each group its rate for `step` (0 for the first) where the schedule's is `rate`."""
    for group in param_groups:
        group["lr"] = rate * group["lr_multiplier"] if step < group["last_step"] else 0.0


def _checked(number: int, entry: Any) -> dict[str, Any]:
    """The entry with its defaults; raises `UserError` where it is not one."""
    name = f"parameter_groups[{number}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("parameters"), str):
        raise UserError(
            f"{name}={entry}: must be such as {{parameters: '*.kappa', lr_multiplier: 0.1, until_fraction: 0.96}}"
        )
    if wrong := [key for key in entry if key not in KEYS]:
        raise UserError(f"{name}.{wrong[0]}: no such key{nearest(str(wrong[0]), KEYS)}")
    entry = {"lr_multiplier": 1.0, "until_fraction": 1.0, **entry}
    for key, allowed in RANGES.items():
        if problem := allowed.problem(entry[key]):
            raise UserError(f"{name}.{key}={entry[key]}: {problem}")
    return entry
