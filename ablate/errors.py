"""A person's mistakes, and how the command prints them: a line each, to standard error."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

from ablate.terminal import say


class UserError(Exception):
    """A mistake in what the user gave: one line that names it; the command exits with `exit_code`."""

    exit_code = 2

    def of(self, *where: str) -> UserError:
        """The same mistake, each line of it behind the words that say where it was made: `sweep: row: line`."""
        return UserError("\n".join(": ".join((*where, line)) for line in str(self).splitlines()))


def print_error(message: object) -> None:
    """Print each line of a message to standard error, as the command's own."""
    for line in str(message).splitlines():
        say(f"ablate: {line}", file=sys.stderr)


def nearest(word: str, choices: Iterable[str]) -> str:
    """The tail of an error line that offers the nearest right word, or nothing where none is near."""
    choices = list(choices)
    match = [choice for choice in choices if choice.lower() == word.lower()]
    match += difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
