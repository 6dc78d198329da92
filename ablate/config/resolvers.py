"""Arithmetic between config keys: `${of:2/3,shape.d_ff}`, `${multiple:256,8/3,shape.d_model}`, `${plus:1,a.b}`,
`${rsqrt:a.b}`, `${sqrt:a.b}`, `${whole_sqrt:a.b}`; `${at_once:}`, the sequences that a device takes at once;
`${by_scale:262144,600}`, one number for models as large as the paper's and one for small ones; and
`${as_published:d_ff,8/3,shape.d_model}`, a number of a published model.

Arguments that name a key are its full path, because the override grammar refuses a nested `${a:${b}}`. Each function
is given `at`, which looks a key up: in OmegaConf's containers or in plain ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from omegaconf import Container, OmegaConf

from ablate.config import published
from ablate.config.batch import share_by
from ablate.errors import UserError
from ablate.ratio import floor_of, ratio_of

At = Callable[[str], Any]


def number_at(path: str, at: At) -> float:
    """The number at the key `path`; raises `UserError` where there is none."""
    value: object = at(str(path))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{path} must be a number to calculate with, and is {value!r}")
    return value


def whole_part(ratio: Any, path: str, *, at: At) -> int:
    """`ratio` (such as 2/3) times the number at `path`; refused by name where that is not whole."""
    return ratio_of(ratio, number_at(path, at), path)


def multiple_above(step: Any, ratio: Any, path: str, *, at: At) -> int:
    """`ratio` (such as 8/3) times the number at `path`, its whole part, rounded up to a multiple of `step`.

    LLaMA's rule for the width of its feed-forward (Touvron et al. 2023, https://arxiv.org/abs/2302.13971).
    """
    if not isinstance(step, int) or isinstance(step, bool) or step < 1:
        raise UserError(f"${{multiple:{step},{ratio},{path}}}: {step!r} must be a whole number, 1 or more")
    whole = floor_of(ratio, number_at(path, at), path)
    return -(-whole // step) * step


def sum_of(amount: Any, path: str, *, at: At) -> int | float:
    """`amount` plus the number at `path`."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise UserError(f"${{plus:{amount},{path}}}: {amount!r} is not a number")
    return amount + number_at(path, at)


def square_root(path: str, *, at: At) -> float:
    """The square root of the number at `path`."""
    return float(_positive(path, at) ** 0.5)


def whole_square_root(path: str, *, at: At) -> int:
    """The whole number nearest to the square root of the number at `path`."""
    return round(square_root(path, at=at))


def inverse_square_root(path: str, *, at: At) -> float:
    """The number at `path` to the power -1/2."""
    return float(_positive(path, at) ** -0.5)


def sequences_at_once(*, at: At) -> int:
    """The sequences of one micro-batch: `trainer.micro_batch`, or all that a device has."""
    try:
        return share_by(at).micro_batch
    except UserError:
        return 1  # the check of the whole config says what is wrong


LARGE = 512  # shape.d_model from which a model is as large as the paper's, whose numbers it takes


def by_scale(large: Any, small: Any, *, at: At) -> int | float | None:
    """`large` for models of a width of 512 or more, such as shape=paper, else `small`: a number, a key or null."""
    chosen = large if number_at("shape.d_model", at) >= LARGE else small
    return number_at(chosen, at) if isinstance(chosen, str) else chosen


def as_published(name: str, ratio: Any, path: str, *, at: At) -> int:
    """`shape.name` where the shape is a published one that has it, else `ratio` of the number at `path`, rounded."""
    if at("shape.published") and (value := at(f"shape.{name}")) is not None:
        return int(value)
    return published.rounded(str(name), ratio, number_at(path, at), at)


RESOLVERS: dict[str, Callable[..., Any]] = {
    "of": whole_part,
    "multiple": multiple_above,
    "plus": sum_of,
    "sqrt": square_root,
    "whole_sqrt": whole_square_root,
    "rsqrt": inverse_square_root,
    "at_once": sequences_at_once,
    "by_scale": by_scale,
    "as_published": as_published,
}


def _positive(path: str, at: At) -> float:
    value = number_at(path, at)
    if value <= 0:
        raise UserError(f"{path} must be positive to take its root, and is {value}")
    return value


def register() -> None:
    """Make the resolvers known to OmegaConf; may be called any number of times."""
    for name, function in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, _on_containers(function), replace=True)


def _on_containers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as OmegaConf calls it: with the root container by a name of its choice."""

    def resolver(*arguments: Any, _root_: Container) -> Any:
        return function(*arguments, at=partial(OmegaConf.select, _root_))

    return resolver
