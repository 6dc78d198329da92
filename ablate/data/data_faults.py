"""Faults in the data: each one is refused or counted, none is ignored silently."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ablate.config.root import Data
from ablate.errors import UserError
from ablate.ranges import check
from ablate.terminal import printable


class DataFaults:
    """The policy for bad documents, and how many there were of each kind.

    on_error: "fail" raises UserError at the first bad document, "skip" leaves it out and counts it.
    examples: how many faults are kept with file and line; None keeps all.
    """

    def __init__(self, on_error: str = "fail", examples: int | None = 20):
        check(Data, "data", on_error=on_error)
        self.on_error, self.limit = on_error, examples
        self.skipped: Counter[str] = Counter()  # kind of fault -> documents (or files) left out
        self.noted: Counter[str] = Counter()  # kind of oddity -> how often it was repaired or ignored
        self.examples: list[str] = []

    def bad(self, kind: str, where: str, detail: str = "") -> None:
        """Report a document or file that cannot be used, e.g. bad("invalid UTF-8", "a.jsonl:7")."""
        line = _printable(f"{where}: {kind}" + (f" ({detail})" if detail else ""))
        if self.on_error == "fail":
            raise UserError(f"{line}; data.on_error=skip would leave it out and count it")
        self.skipped[kind] += 1
        self._remember(line)

    def note(self, kind: str, where: str, count: int = 1) -> None:
        """Report an oddity that spoils no document, or so many of them at one place."""
        self.noted[kind] += count
        self._remember(_printable(f"{where}: {kind}"))

    def restore(self, entry: dict[str, Any]) -> None:
        """Take over what `as_dict` gave in another process."""
        self.skipped, self.noted = Counter(entry["skipped"]), Counter(entry["noted"])
        self.examples = list(entry["examples"])

    def _remember(self, line: str) -> None:
        if self.limit is None or len(self.examples) < self.limit:
            self.examples.append(line)

    def as_dict(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {
            "skipped": dict(sorted(self.skipped.items())),
            "noted": dict(sorted(self.noted.items())),
            "examples": self.examples,
        }


def _printable(line: str) -> str:
    """The line as one line: a line end in a file's name is written as an escape."""
    return printable(line.replace("\n", "\\n"))
