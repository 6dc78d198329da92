"""`ablate status NAME`: how far a sweep has come."""

from __future__ import annotations

from ablate.cli import arguments
from ablate.terminal import say

HELP = """Say which runs of a sweep are done, running, failed or missing, and what failed of.

usage: ablate status NAME

  ablate status axes
"""


def run(words: list[str]) -> int:
    """Print the state of every run."""
    given = arguments.sort(words)
    name = arguments.one_name(given, "sweep", "ablate status")
    from ablate.sweep import status

    say(status.describe(name, given.overrides))
    return 0
