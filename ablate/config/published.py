"""Numbers of published models at other shapes: a ratio of the width, or of another number, taken to what fits there.

An option's key that holds `${as_published:d_ff,8/3,shape.d_model}` has the printed number at the shape of the published
model, and at every other the nearest number that fits to the same ratio.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ablate.ratio import times

MULTIPLE = 8  # of which the widths of feed-forwards are, so that matrices stay aligned
_WRITTEN = re.compile(r"\$\{as_published:(\w+), *([\w./]+), *([\w.]+)\}")
At = Callable[[str], Any]


def rounded(name: str, ratio: Any, whole: float, at: At) -> int:
    """`ratio` of `whole`, at the nearest number that the quantity `name` can have.

    d_ff: a multiple of 8; n_kv_heads: a divisor of the heads; channels, which rotary turns: an even number; others,
    such as window and d_inner: a whole number.
    """
    exact = times(ratio, whole, name)
    if name == "d_ff":
        return max(MULTIPLE, MULTIPLE * round(exact / MULTIPLE))
    if name == "n_kv_heads":
        heads = int(at("shape.n_heads"))
        divisors = [number for number in range(1, heads + 1) if heads % number == 0]
        return min(divisors, key=lambda number: abs(number - exact))
    if name == "channels":
        return max(2, 2 * round(exact / 2))
    return max(1, round(exact))


def roundings(written: Mapping[str, Any], resolved: Mapping[str, Any]) -> list[str]:
    """A line for each key of a preset that is not its ratio exactly; `written` and `resolved` are flat configs."""
    lines = []
    for key, text in written.items():
        match = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
        if match is None or (resolved.get("shape.published") and resolved.get(f"shape.{match[1]}") is not None):
            continue
        _, ratio, path = match.groups()
        exact = times(ratio, resolved[path], path)
        if exact != resolved[key]:
            lines.append(f"{key} is {resolved[key]}, the nearest that fits to {ratio} of {path} = {float(exact):.4g}")
    return lines
