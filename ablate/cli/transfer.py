"""`ablate transfer NAME…`: whether changes carry over from one context to others."""

from __future__ import annotations

from ablate.cli import arguments
from ablate.errors import UserError
from ablate.terminal import say

HELP = """Compare what the same changes are worth in several contexts, and write reports/transfer-NAME/.

usage: ablate transfer NAME... [as=NAME]

A NAME is a sweep, with `contexts:` or without, whose runs or report are there, or a published table (narang2021). Rows
are matched by what they change. With rungs in every context the unit is the gain in tokens, else nats.

  ablate transfer c4                       the contexts of one sweep
  ablate transfer axes-c4 layers-c4 as=c4  several sweeps
  ablate transfer c4 narang2021            beside a published table
"""


def run(words: list[str]) -> int:
    """Write the report; print its findings and its path."""
    given = arguments.sort(words)
    from ablate.study.paths import Paths
    from ablate.transfer import build

    called = [word for word in given.overrides if word.startswith("as=")]
    if len(called) > 1:
        raise UserError(f"{called[1]}: as is given twice")
    paths = Paths.only([word for word in given.overrides if word not in called])
    name = called[0].removeprefix("as=") if called else None
    report = build.build(given.names, paths.runs, paths.reports, paths.sweeps, name)
    say("\n".join([*report.lines, str(report.path)]))
    return 0
