"""What is wrong with the data: refused or counted, never silent."""

from __future__ import annotations

from collections import Counter

from ablate.config.root import Data
from ablate.errors import UserError
from ablate.ranges import check


class Problems:
    """The policy for bad data and its tally.

    on_error: "fail" raises UserError at the first bad document, "skip" leaves it out and counts it.
    examples: how many places are remembered by name; None remembers all.
    """

    def __init__(self, on_error: str = "fail", examples: int | None = 20):
        check(Data, "data", on_error=on_error)
        self.on_error, self.limit = on_error, examples
        self.skipped: Counter[str] = Counter()  # kind of fault -> documents (or files) left out
        self.noted: Counter[str] = Counter()  # kind of oddity -> how often it was met and repaired or ignored
        self.examples: list[str] = []

    def bad(self, kind: str, where: str, detail: str = "") -> None:
        """A document or file that cannot be used, e.g. bad("invalid UTF-8", "a.jsonl:7")."""
        line = f"{where}: {kind}" + (f" ({detail})" if detail else "")
        if self.on_error == "fail":
            raise UserError(f"{line}; data.on_error=skip would leave it out and count it")
        self.skipped[kind] += 1
        self._remember(line)

    def note(self, kind: str, where: str) -> None:
        """Something odd that loses no text."""
        self.noted[kind] += 1
        self._remember(f"{where}: {kind}")

    def _remember(self, line: str) -> None:
        if self.limit is None or len(self.examples) < self.limit:
            self.examples.append(line)

    def as_dict(self) -> dict:
        """What the manifest keeps."""
        return {
            "skipped": dict(sorted(self.skipped.items())),
            "noted": dict(sorted(self.noted.items())),
            "examples": self.examples,
        }
