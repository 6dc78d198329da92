"""A sweep as it is asked for, checked before anything is begun: the same whether it is run or rehearsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ablate.errors import UserError
from ablate.study import definition, runs, standing
from ablate.study.budget import Budget
from ablate.study.definition import Sweep
from ablate.study.membership import Membership
from ablate.study.paths import Paths
from ablate.study.settled import Settled
from ablate.sweep import preflight
from ablate.sweep.devices import jobs_at_a_time
from ablate.sweep.preflight import RunRequest
from ablate.sweep.session import Options
from ablate.sweep.stored_runs import StoredRuns


@dataclass(frozen=True)
class SweepRequest:
    """What a call of the driver works on: `differing` are the runs on disk of another config, and what differs."""

    sweep: Sweep
    paths: Paths
    options: Options
    jobs: int
    items: list[RunRequest]
    differing: dict[RunRequest, str]
    stored: StoredRuns
    budget: Budget | None = None


def parts(
    name: str, overrides: Sequence[str], options: Mapping[str, Any], budget: Budget | None = None
) -> list[list[SweepRequest]]:
    """The tables of the sweep `name`, each with its baseline at the rungs, all checked before anything is begun.

    Rows that cannot be composed in one of several contexts are left out there. They have the seeds that a `budget`
    leaves. Raises `UserError` with a line for each thing that is wrong in any of them.
    """
    sweep, only = definition.load(name, Paths.of(overrides).sweeps), options.get("only")
    if budget:
        sweep = replace(sweep, seeds=budget.left)
    found: list[list[SweepRequest]] = []
    errors: list[str] = []
    for table in runs.with_rungs(standing.tables(sweep, overrides), only):
        found.append([])
        for part in table:
            try:
                asked = of(part, overrides, {**options, "only": None if part.rung else only})
                found[-1].append(replace(asked, budget=budget))
            except UserError as error:
                errors.append(str(error))
    if errors:
        raise UserError("\n".join(dict.fromkeys(errors)))
    if not found:
        raise UserError(f"only: {only} is left out in every context of {name}")
    return found


def of(sweep: Sweep, overrides: Sequence[str], options: Mapping[str, Any]) -> SweepRequest:
    """One table of a sweep, whose file need not be there yet: its rows composed, and compared with what is on disk.

    Raises `UserError`.
    """
    chosen, paths = Options(**options), Paths.of(overrides)
    jobs = chosen.jobs if chosen.slurm is None else None  # on a cluster they do not share a machine
    settled = Settled(sweep, paths, overrides, jobs=jobs, stored=chosen.stored)
    items = preflight.compose_all(sweep, runs.planned(sweep, overrides, chosen.only), paths, overrides, settled)
    if not chosen.replace:
        settled.check()
    differing = preflight.check_against_disk(sweep, items, chosen.replace)
    jobs = chosen.jobs or jobs_at_a_time((item.trainer for item in items), chosen.jobs_per_device or 1)
    stored = StoredRuns(Membership(sweep, overrides, settled), paths, counts=chosen.stored)
    return SweepRequest(sweep, paths, replace(chosen, jobs=jobs, jobs_per_device=None), jobs, items, differing, stored)
