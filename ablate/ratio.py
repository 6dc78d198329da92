"""Parts of whole numbers, as configs write them: 2/3 of 3072."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ablate.errors import UserError


def ratio_of(ratio: Any, whole: float, what: str, *, least: int = 0) -> int:
    """`ratio` (2/3, "2/3" or 0.5) of `whole`; refused by `what` it is of where that is not whole, or below `least`."""
    try:
        result = Fraction(str(ratio)) * Fraction(whole)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{what}: {ratio!r} is not a ratio such as 2/3 or 0.5") from None
    if result.denominator != 1:
        raise UserError(f"{ratio} of {what} = {whole} is {float(result):g}, and must be whole")
    if result < least:
        raise UserError(f"{ratio} of {what} = {whole} is {int(result)}, and must be at least {least}")
    return int(result)
