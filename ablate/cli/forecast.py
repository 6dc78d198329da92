"""`ablate forecast NAME`: what the next size of a sweep will show, written down before it runs."""

from __future__ import annotations

from ablate.cli import arguments
from ablate.cli.sweep import boolean, split
from ablate.terminal import say

HELP = """Foresee the next size of a sweep with `scale:` from the sizes that have run: each row's difference from its
control and the baseline's loss, with 95 % intervals, in reports/NAME/SIZE/forecast.json. The report on that size says
how right it was.

usage: ablate forecast NAME[/SIZE] [replace=true]

  ablate forecast gain-c4                     the first size that has not begun
  ablate forecast gain-c4/1.5M                this one
  ablate forecast gain-c4 replace=true        moves one aside that rests on other runs

Refused where the size, or a larger one, has begun, and where fewer than two sizes have three seeds.
"""


def run(words: list[str]) -> int:
    """Write the forecast; print it and its path."""
    given = arguments.sort(words)
    name = arguments.one_name(given, "sweep", "ablate forecast")
    settings, overrides = split(given.overrides, {"replace": boolean})
    from ablate.report.render import forecast_text
    from ablate.study.paths import Paths
    from ablate.transfer.forecast import forecast

    path, found = forecast(name, Paths.only(overrides), **settings)
    say("\n".join([*forecast_text.lines(found), str(path)]))
    return 0
