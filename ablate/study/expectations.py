"""What a sweep file expects of a row, and by whom: written before the runs, so that a verdict can contradict it.

expect: {worse: "without warm-up: Xiong et al. 2020, arXiv:2002.04745"}
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ablate.errors import UserError, nearest

WORDS = ("better", "worse", "equal")  # of a row, beside the one that it is compared with


class Expectation(NamedTuple):
    """One of `WORDS`, and the source that says so."""

    word: str
    source: str


def read(value: Any, where: str) -> Expectation:
    """The expectation that a sweep file or a record holds under `expect`; raises `UserError` where it is none."""
    if not isinstance(value, dict) or len(value) != 1:
        raise UserError(
            f'{where}: expect must be such as {{worse: "Xiong et al. 2020, arXiv:2002.04745"}}, and is {value!r}'
        )
    ((word, source),) = value.items()
    if word not in WORDS:
        raise UserError(f"{where}: expect: {word!r} is none of {', '.join(WORDS)}{nearest(str(word), WORDS)}")
    if not isinstance(source, str) or not source.strip():
        raise UserError(f"{where}: expect: {word} needs the source that says so, as text, and has {source!r}")
    return Expectation(word, source.strip())
