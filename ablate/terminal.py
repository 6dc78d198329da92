"""What is printed: text that may come from elsewhere, without what a terminal would obey instead of showing.

>>> printable("a\\x1b[2Jb")
'a\\\\x1b[2Jb'
"""

from __future__ import annotations

import re
import sys
from typing import TextIO

# Control characters but for tab and newline; those that turn the direction of what follows; line separators; halves of
# a pair; invisible tags.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)

# What colours text, moves the cursor, names the window; as ECMA-48 has it.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-Z\\-~])")


def without_sequences(text: str) -> str:
    """What another program wrote for a terminal, without its colours and movements of the cursor."""
    return _SEQUENCE.sub("", text)


def printable(text: object) -> str:
    """The text with such characters written out, as `\\x1b`."""
    return _OBEYED.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def say(text: object, file: TextIO | None = None, end: str = "\n") -> None:
    """Print a text, to standard output where no file is given."""
    print(printable(text), file=file or sys.stdout, end=end, flush=True)
