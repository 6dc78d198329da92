"""`ablate plan NAME`: what a sweep would do, before the hours are spent."""

from __future__ import annotations

from ablate.cli import arguments
from ablate.cli.sweep import SETTINGS, split
from ablate.terminal import say

HELP = """Say what a sweep would run, how long that takes, and which differences it could detect.

usage: ablate plan NAME [overrides] [jobs=RUNS_AT_A_TIME] [only=ROWS] [budget=TIME] [--count] [--measure]

--count says what each row costs before any has run: parameters and operations, a second or so a row.
--measure prepares the text, builds each row, refuses what `ablate sweep` refuses, and forecasts from a few steps.

  ablate plan axes
  ablate plan axes --measure
  ablate plan axes --measure budget=2h    what fits into two hours: fewer seeds, but at least three
  ablate plan axes shape=micro jobs=1
  ablate plan narang2021 shape=paper data=c4 --count
"""


def run(words: list[str]) -> int:
    """Print the plan."""
    given = arguments.sort(words, switches=("--count", "--measure"))
    name = arguments.one_name(given, "sweep", "ablate plan")
    settings, overrides = split(
        given.overrides, {key: SETTINGS[key] for key in ("jobs", "jobs_per_device", "only", "budget")}
    )
    if "--count" in given.flags:
        from ablate.cli.counting import costs

        settings["count"] = costs
    if "--measure" in given.flags:
        from ablate.sweep.rehearsal import rehearse

        return rehearse(name, overrides, measures=True, **settings)
    from ablate.sweep.describe import describe

    say(describe(name, overrides, **settings))
    return 0
