"""Parts of whole numbers, as configs write them: 2/3 of 3072."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from ablate.errors import UserError


def ratio_of(ratio: Any, whole: float, what: str, *, least: int = 0) -> int:
    """`ratio` (2/3, "2/3" or 0.5) of `whole`; refused by `what` it is of where that is not whole, or below `least`."""
    result = times(ratio, whole, what)
    if result.denominator != 1:
        raise UserError(f"{ratio} of {what} = {whole} is {float(result):g}, and must be whole")
    if result < least:
        raise UserError(f"{ratio} of {what} = {whole} is {int(result)}, and must be at least {least}")
    return int(result)


def floor_of(ratio: Any, whole: float, what: str) -> int:
    """The whole part of `ratio` (8/3, "8/3" or 2.5) of `whole`; refused, by `what` it is of, where `ratio` is none."""
    return math.floor(times(ratio, whole, what))


def times(ratio: Any, whole: float, what: str) -> Fraction:
    """`ratio` of `whole`, exactly; refused by `what` it is of where `ratio` is none."""
    try:
        return Fraction(str(ratio)) * Fraction(whole)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{what}: {ratio!r} is not a ratio such as 2/3 or 0.5") from None
