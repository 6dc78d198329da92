"""A part of a sweep as it stands: its rows' configs, what is done, and how long the rest takes with which seeds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ablate.config.root import Trainer
from ablate.duration import duration
from ablate.errors import UserError
from ablate.machine import uses_gpu
from ablate.run.record import DONE
from ablate.study.definition import Seeds, Sweep
from ablate.study.membership import Membership
from ablate.study.paths import Paths
from ablate.study.runs import planned, select
from ablate.study.settled import Settled
from ablate.sweep import estimates, timing
from ablate.sweep.devices import jobs_at_a_time, runs_on_a_gpu
from ablate.sweep.estimates import Seconds
from ablate.sweep.session import Options
from ablate.sweep.stored_runs import StoredRuns
from ablate.text import plural

if TYPE_CHECKING:
    from ablate.sweep.trials import Trials

Config = dict[str, Any]  # resolved


class Outlook:
    """One table of a sweep, or its baseline at a rung, `only` some of its rows.

    `trials` are measured steps; without them the time is judged by runs that are there. Raises `UserError` for a row in
    error.
    """

    def __init__(
        self,
        sweep: Sweep,
        extra: Sequence[str],
        at_a_time: Options,
        only: str | Iterable[str] | None,
        trials: Trials | None,
    ) -> None:
        self.sweep, self.trials, self.paths = sweep, trials, Paths.of(extra)
        self._asked = (extra, at_a_time, only, trials)
        self.chosen = select(sweep, only)
        self.settled = Settled(sweep, self.paths, extra, jobs=at_a_time.jobs)
        self.membership = Membership(sweep, extra, self.settled)
        self.configs = _configs(self.membership, self.chosen)
        self.stored = StoredRuns(self.membership, self.paths)
        self.found = {run: self.membership.judged(self.stored.look(run)) for run in planned(sweep, extra, only)}
        statuses = self.found.values()
        self.known = [status.record for status in statuses if status.state == DONE and status.record]
        trainers = [Trainer(**config["trainer"]) for config in self.configs.values()]
        self.jobs = at_a_time.jobs or jobs_at_a_time(trainers, at_a_time.jobs_per_device or 1)

    def of(self, sweep: Sweep) -> Outlook:
        """That of the same table with other rows."""
        return self if sweep is self.sweep else Outlook(sweep, *self._asked)

    def left(self, seeds: Seeds | None = None) -> Counter[str]:
        """How many runs of each row are to be made, where the sweep has these seeds; else its own."""
        most = {row: self._seeds_of(row, seeds or self.sweep.seeds) for row in self.chosen}
        waiting = (run for run, status in self.found.items() if not status.finished)
        return Counter(run.row for run in waiting if run.seed < most[run.row])

    def time(self, seeds: Seeds | None = None) -> tuple[float, str]:
        """How long it takes, runs, timing pass and report together: in seconds, NaN where unknown, and in words."""
        name, left, seconds = self.sweep.name, self.left(seeds), self._seconds
        if not left:
            return 0.0, "nothing is left to run"
        if not seconds.rows:
            return math.nan, f"not measured; ablate plan {name} --measure trains a few steps of each row"
        training = sum(seconds.rows[row] * runs for row, runs in left.items())
        longest = max(seconds.rows[row] for row in left)
        mean = training / left.total()
        runs = max(longest, training / self.jobs, mean * math.ceil(left.total() / self.jobs))
        trials = self.trials.rows.values() if self.trials else ()
        start = statistics.mean(trial.start for trial in trials) if trials else timing.START
        timed = timing.forecast(sum(seconds.rows.values()), len(seconds.rows), start)
        report = estimates.report(left.total())
        begin = self.trials.begin if self.trials else 0.0
        total = begin + runs + timed + report
        parts = f"{left.total()} runs of about {duration(mean)}, timing pass {duration(timed)}"
        parts = f"start {duration(begin)}, {parts}" if begin else parts
        cut = self.trials.cut if self.trials else []
        least = f"; at least, as not waited for: {', '.join(cut)}" if cut else ""
        return total, (
            f"about {duration(total)} with jobs={self.jobs}: {parts}, report {duration(report)}; {seconds.source}; "
            f"{self._device_time(training, timed)}{least}"
        )

    def _device_time(self, training: float, timed: float) -> str:
        """What runs of so many seconds, and the timing pass, keep busy: `3.1 GPU-hours`, or of cores."""
        trainers = [Trainer(**config["trainer"]) for config in self.configs.values()]
        if any(map(uses_gpu, trainers)):
            devices = max(trainer.devices for trainer in trainers)
            shared = max(1, runs_on_a_gpu(trainers, self.jobs))
            return f"{devices * (training / shared + timed) / 3600:.2g} GPU-hours"
        cores = max(trainer.devices * trainer.threads for trainer in trainers)
        return f"{cores * (training + timed) / 3600:.2g} core-hours"

    def _seeds_of(self, row: str, seeds: Seeds) -> int:
        return seeds.baseline if row == self.sweep.baseline else seeds.rows

    @cached_property
    def _seconds(self) -> Seconds:
        """How long the runs take: as measured, else as runs of this sweep did, else as those of others."""
        if self.trials and (measured := self.trials.seconds(self.configs)):
            return Seconds(measured, f"measured by a few steps of {plural(len(self.trials.rows), 'row')}")
        own = estimates.of_this_sweep(self.known, self.configs)
        return own if own.rows else estimates.of_other_sweeps(self.paths.runs, self.sweep.name, self.configs)


def _configs(membership: Membership, rows: Sequence[str]) -> dict[str, Config]:
    """The config of each row's first seed; raises `UserError` for each row that has none."""
    configs: dict[str, Config] = {}
    for row in rows:
        try:
            configs[row] = membership.config(row, 0)
        except UserError as error:
            raise error.of(membership.sweep.name, row) from None
    return configs
