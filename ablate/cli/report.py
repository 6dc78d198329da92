"""`ablate report NAME`: the report of a sweep, from its records."""

from __future__ import annotations

from ablate.cli import arguments

HELP = """Write reports/NAME/ from the sweep's run folders, or, where those are gone, from the records beside the report.

usage: ablate report NAME

  ablate report axes
"""


def run(words: list[str]) -> int:
    """Write the report and print where it lies."""
    asked = arguments.sort(words)
    name = arguments.one_name(asked, "sweep", "ablate report")
    from ablate.report import build
    from ablate.sweep.paths import Paths

    paths = Paths.of(asked.overrides)
    print(build.build(name, paths.runs, paths.reports, paths.sweeps))
    return 0
