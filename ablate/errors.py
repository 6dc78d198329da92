"""What a person got wrong, told in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked: one line that names it; the command exits with code 2."""

    def of(self, *where: str) -> UserError:
        """The same mistake, each line of it behind the words that say where it was made: `sweep: row: line`."""
        return UserError("\n".join(": ".join((*where, line)) for line in str(self).splitlines()))


def nearest(word: str, choices: Iterable[str]) -> str:
    """The tail of an error line that offers the nearest right word, or nothing where none is near."""
    choices = list(choices)
    match = [choice for choice in choices if choice.lower() == word.lower()]
    match += difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
