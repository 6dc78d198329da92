"""`ablate report NAME`: the report of a sweep, from its records."""

from __future__ import annotations

import sys

from ablate.cli import arguments
from ablate.terminal import say

HELP = """Write reports/NAME/ from the sweep's run folders; runs whose folders are gone are taken from the records
next to the report, if they match the sweep as it is now (remove records.jsonl to leave them out).

usage: ablate report NAME [--strict]

  ablate report axes
  ablate report axes --strict     exit code 1 where a record could not be read; the report is written all the same
"""


def run(words: list[str]) -> int:
    """Write the report, print its path, and name on stderr what had to be left out of it."""
    given = arguments.sort(words, switches=("--strict",))
    name = arguments.one_name(given, "sweep", "ablate report")
    from ablate.report import build
    from ablate.study.paths import Paths

    paths = Paths.only(given.overrides)
    written = build.build(name, paths.runs, paths.reports, paths.sweeps)
    say(written)
    left_out = build.problems(written.parent)
    for problem in left_out:
        say(f"left out: {problem}", file=sys.stderr)
    return 1 if left_out and "--strict" in given.flags else 0
