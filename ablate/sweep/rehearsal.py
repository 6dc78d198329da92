"""What `ablate plan --measure` and `ablate sweep --dry-run` try, so that they refuse whatever a sweep would."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from ablate.run.status import RunStatus
from ablate.study import definition, runs
from ablate.study.membership import Membership
from ablate.study.paths import Paths
from ablate.sweep import corpora, preflight, trials
from ablate.sweep.describe import describe
from ablate.sweep.devices import jobs_at_a_time
from ablate.sweep.interruption import Interruption
from ablate.sweep.progress import Display
from ablate.sweep.session import Options, Session
from ablate.sweep.stored_runs import StoredRuns
from ablate.sweep.workers import Program, Starters
from ablate.terminal import say


def rehearse(
    name: str,
    overrides: Sequence[str] = (),
    *,
    measures: bool,
    count: Any = None,
    program: Program | None = None,
    out: TextIO | None = None,
    **options: Any,
) -> int:
    """Build every row of the sweep `name` and print its plan; returns the exit code.

    With `measures` the texts are prepared, too, and the forecast is from a few steps of each row. The other arguments
    are those of `command.run` and `describe`. Nothing stays below `runs`. Raises `UserError` for what a sweep refuses.
    """
    chosen, paths = Options(**options), Paths.of(overrides)
    sweep = definition.load(name, paths.sweeps)
    items = preflight.compose_all(sweep, runs.planned(sweep, overrides, chosen.only), paths, overrides)
    differing = preflight.check_against_disk(sweep, items, chosen.replace)
    jobs = chosen.jobs or jobs_at_a_time(item.trainer for item in items)
    chosen, starters = replace(chosen, jobs=jobs), Starters(program or Program(), jobs)
    stored = StoredRuns(Membership(sweep, overrides), paths)
    found = None
    with (
        tempfile.TemporaryDirectory(prefix="ablate-plan-") as scratch,
        Display(sys.stderr) as display,
        Interruption() as interruption,
    ):
        session = Session(sweep, paths, chosen, display, interruption, starters, stored)
        try:
            hashes = corpora.prepare(session, items, Path(scratch), texts=measures)
            if measures and not interruption:
                preflight.check_data(sweep, items, differing, hashes, chosen.replace)
                left = [item for item in items if item in differing or not _look(stored, item).finished]
                found = trials.measure(session, left, Path(scratch))
        finally:
            display.note("")
            starters.close()
        if interruption:
            return interruption.exit_code
    say(describe(name, overrides, jobs=jobs, only=chosen.only, count=count, trials=found), file=out)
    return 0


def _look(stored: StoredRuns, item: preflight.RunRequest) -> RunStatus:
    return stored.look(item.run.row, item.run.seed, item.folder)
