"""Run a sweep: check everything, prepare the text, train what is missing, time it, write the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from ablate import termination
from ablate.duration import duration
from ablate.integrations.wandb import mirror_of
from ablate.run.record import FAILED, FINISHED
from ablate.study import budget as budgets
from ablate.study import standing
from ablate.study.budget import Budget
from ablate.study.paths import Paths
from ablate.sweep import budgeting, preflight, request, timing
from ablate.sweep.corpora import Prepared, prepare
from ablate.sweep.describe import outlooks
from ablate.sweep.interruption import Interruption
from ablate.sweep.progress import Display
from ablate.sweep.rehearsal import rehearse, tried
from ablate.sweep.scheduler import Driver, Tally
from ablate.sweep.session import Options, Session
from ablate.sweep.workers import Program, Starters
from ablate.terminal import say
from ablate.text import plural

if TYPE_CHECKING:
    from ablate.sweep.slurm import SlurmStarters


def run(
    name: str,
    overrides: Sequence[str] = (),
    *,
    dry_run: bool = False,
    budget: float | None = None,
    program: Program | None = None,
    out: TextIO | None = None,
    **options: Any,
) -> int:
    """Train every run of the sweep `name` that has no result yet, and write its report; returns the exit code.

    `overrides` go to every run, `options` are those of `Options`; `dry_run` builds each row and only says what would be
    done. A `budget` is the seconds that all of it may take: a few steps of each row are measured first, and seeds are
    taken away evenly where all of them take longer. The code is 0 when all runs have a result, 1 when some have not,
    130 after Ctrl-C, 143 after SIGTERM. Raises `UserError` before anything is begun, where something is wrong in the
    sweep file, the overrides or the options.
    """
    if dry_run:
        return rehearse(name, overrides, measures=bool(budget), budget=budget, program=program, out=out, **options)
    tables = request.parts(name, overrides, options)
    if budget:
        code, taken = _within(budget, name, overrides, tables, program or Program())
        if code:
            return code
        if taken:
            say(f"{name}: {budgeting.said(taken)}", file=out)
            tables = request.parts(name, overrides, options, taken)
    codes = []
    for table in tables:
        codes.append(drive(*table, program=program, out=out))
        if codes[-1] in termination.EXIT_CODES:
            break
    return max(codes)


def _within(
    seconds: float,
    name: str,
    overrides: Sequence[str],
    tables: Sequence[Sequence[request.SweepRequest]],
    program: Program,
) -> tuple[int, Budget | None]:
    """The seeds that a sweep has within a time, as a few steps of each row show; with the code of an interruption."""
    parts = [part for table in tables for part in table]
    code, trials, refused = tried(parts, program)
    if code:
        return code, None
    chosen = parts[0].options
    found = outlooks(name, overrides, chosen, chosen.only, trials, refused=refused)
    return 0, budgeting.fitted(name, found, seconds)


def drive(
    asked: request.SweepRequest,
    *rungs: request.SweepRequest,
    program: Program | None = None,
    out: TextIO | None = None,
) -> int:
    """Train what is missing of a table that has been checked, then of its baseline at `rungs`, and write its report.

    Returns the exit code of `run`.
    """
    codes = []
    for part in (asked, *rungs):
        codes.append(_train(part, program or Program(), out))
        if codes[-1] in termination.EXIT_CODES:
            return codes[-1]
    if asked.options.report:
        _report(asked, out)
    mirror = mirror_of(asked.items[0].config["logger"])
    for part in (asked, *rungs):
        runs = [item.folder for item in part.items]
        if mirror and (line := mirror.outcome_line(part.paths.runs / part.sweep.name, runs)):
            say(f"{part.sweep.name}: {line}", file=out)
    return max(codes)


def _train(asked: request.SweepRequest, program: Program, out: TextIO | None) -> int:
    name = asked.sweep.name
    chosen, paths, items = asked.options, asked.paths, asked.items
    starters = _starters(name, program, chosen, paths, asked.jobs)
    budgets.write(paths.runs / name, asked.budget)
    with Display(out) as display, Interruption() as interruption:
        session = Session(asked.sweep, paths, chosen, display, interruption, starters, asked.stored)
        try:
            code = _work(session, items, asked.differing)
        finally:
            starters.close()
        if interruption:
            display.say(f"{name}: stopped; the same command goes on from here")
            return interruption.exit_code
    return code


def _report(asked: request.SweepRequest, out: TextIO | None) -> None:
    """Write the report and print its verdicts; where the runs are shown on W&B, it is sent there, too."""
    from ablate.report import build

    name, paths = asked.sweep.name, asked.paths
    report = build.build(name, paths.runs, paths.reports, paths.sweeps, asked.options.only)
    first, *table = report.lines
    say("\n".join([f"{name}: {first}", *table, f"{name}: {report.path}"]), file=out)
    if mirror := mirror_of(asked.items[0].config["logger"]):
        mirror.close_sweep(name, paths.runs, paths.reports)


def _starters(name: str, program: Program, options: Options, paths: Paths, jobs: int) -> Starters | SlurmStarters:
    if options.slurm is None:
        return Starters(program, jobs)
    from ablate.sweep.slurm import SlurmStarters

    return SlurmStarters(program, paths.runs / name / ".slurm", options.slurm, jobs)


def _work(session: Session, items: list[preflight.RunRequest], differing: dict[preflight.RunRequest, str]) -> int:
    began = time.monotonic()
    stored = session.stored
    found = [stored.look(item.run) for item in items]
    for line in (*standing.lines(session.sweep), *stored.problems()):
        session.display.say(line)
    settled = {*FINISHED} | ({FAILED} if session.options.retry is None else set())
    lacking = any(not item.is_settled(status) for item, status in zip(items, found, strict=True) if status.finished)
    if differing or lacking or any(status.state not in settled or status.is_damaged for status in found):
        prepared = prepare(session, items)
        if session.interruption:
            return 1
        items, hashes = _standing(session, items, prepared), prepared.sha256
        for line in preflight.make_room(session.sweep, items, differing, hashes, session.options.replace):
            session.display.say(line)
        others = stored.trained_on({(item.run.row, item.run.seed): hashes[item] for item in items})
        if others:
            runs_of = f"{plural(len(others), 'run')} in {stored.file}"
            session.display.say(f"{session.sweep.name}: not counted: {runs_of}, trained on different data")
    tally = Driver(session, items).drive()
    if session.interruption:
        return 1
    if session.options.timing != 0 and session.starters.can_time:
        timing.measure(session, items)
    _summarise(session, tally, time.monotonic() - began)
    return 1 if tally.failed or tally.preempted else 0


def _standing(session: Session, items: list[preflight.RunRequest], prepared: Prepared) -> list[preflight.RunRequest]:
    """The items whose row can stand in the context; the other rows are named, and kept as such."""
    sweep = session.sweep
    if not standing.can_refuse(sweep):
        return items
    table = standing.keep_out(sweep, prepared.refused, session.paths.runs, session.stored.membership.extra or ())
    for line in standing.lines(table)[len(sweep.refused) :]:
        session.display.say(line)
    return [item for item in items if item.run.row in table.rows]


def _summarise(session: Session, tally: Tally, seconds: float) -> None:
    counts = {state: len(items) for state, items in vars(tally).items() if items}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items())
    runs_with_result = (*tally.done, *tally.diverged)
    stored = session.stored
    kept = stored.count(stored.look(item.run) for item in runs_with_result)
    session.display.say(f"{session.sweep.name}: {summary or 'nothing to do'}{kept}, after {duration(seconds)}")
    if kept:
        session.display.say("  stored=false trains those here, too")
    if tally.failed and session.options.retry is None:
        session.display.say("  retry=failed tries the failed ones again")
