"""What `ablate plan --measure` and `ablate sweep --dry-run` try, so that they refuse whatever a sweep would."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from ablate.sweep import corpora, preflight, request, trials
from ablate.sweep.describe import describe
from ablate.sweep.interruption import Interruption
from ablate.sweep.progress import Display
from ablate.sweep.request import SweepRequest
from ablate.sweep.session import Session
from ablate.sweep.trials import Trials
from ablate.sweep.workers import Program, Starters
from ablate.terminal import say


def rehearse(
    name: str,
    overrides: Sequence[str] = (),
    *,
    measures: bool,
    count: Any = None,
    budget: float | None = None,
    program: Program | None = None,
    out: TextIO | None = None,
    **options: Any,
) -> int:
    """Build every row of the sweep `name` and print its plan; returns the exit code.

    With `measures` the texts are prepared, too, and the forecast is from a few steps of each row. The other arguments
    are those of `command.run` and `describe`. Nothing stays below `runs`. Raises `UserError` for what a sweep refuses.
    """
    parts = [part for table in request.parts(name, overrides, options) for part in table]
    code, found, refused = tried(parts, program or Program(), measures=measures)
    if code:
        return code
    chosen = parts[0].options
    given = {"jobs": chosen.jobs, "only": chosen.only, "count": count, "budget": budget}
    say(describe(name, overrides, **given, trials=found, refused=refused), file=out)
    return 0


def tried(
    parts: Sequence[SweepRequest], program: Program, *, measures: bool = True
) -> tuple[int, dict[str, Trials], dict[str, dict[str, str]]]:
    """Build every row and, to measure, train a few steps of it, by the names of the parts.

    With the exit code of an interruption, else 0, and by the same names why some rows cannot stand in their context.
    """
    found: dict[str, Trials] = {}
    refused: dict[str, dict[str, str]] = {}
    for part in parts:
        code, trials_of_part, refused[part.sweep.name] = _tried(part, measures, program)
        if code:
            return code, found, refused
        if trials_of_part is not None:
            found[part.sweep.name] = trials_of_part
    return 0, found, refused


def _tried(asked: SweepRequest, measures: bool, program: Program) -> tuple[int, Trials | None, dict[str, str]]:
    """Build each row of a table and, to measure, train a few steps of it; with the exit code of an interruption.

    Also returned is why some rows cannot stand in the table's context.
    """
    chosen, items = asked.options, asked.items
    starters = Starters(program, asked.jobs)
    found = None
    with (
        tempfile.TemporaryDirectory(prefix="ablate-plan-") as scratch,
        Display(sys.stderr) as display,
        Interruption() as interruption,
    ):
        session = Session(asked.sweep, asked.paths, chosen, display, interruption, starters, asked.stored)
        try:
            began = time.monotonic()
            prepared = corpora.prepare(session, items, Path(scratch), texts=measures)
            begin = time.monotonic() - began - prepared.seconds
            items = [item for item in items if item.run.row not in prepared.refused]
            if measures and not interruption:
                preflight.check_data(asked.sweep, items, asked.differing, prepared.sha256, chosen.replace)
                left = [item for item in items if item in asked.differing or not asked.stored.look(item.run).finished]
                found = replace(trials.measure(session, left, Path(scratch)), begin=begin)
        finally:
            display.note("")
            starters.close()
    return (interruption.exit_code if interruption else 0), found, prepared.refused
