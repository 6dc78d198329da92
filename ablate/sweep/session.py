"""The options of one call of the driver, and what all its parts share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablate.errors import UserError
from ablate.study.definition import Sweep
from ablate.study.paths import Paths
from ablate.sweep.interruption import Interruption
from ablate.sweep.progress import Display
from ablate.sweep.stored_runs import StoredRuns
from ablate.sweep.workers import Starters

if TYPE_CHECKING:
    from ablate.sweep.slurm import SlurmStarters


@dataclass(frozen=True)
class Options:
    """How a sweep is driven. Raises `UserError` for what makes no sense.

    `jobs` runs train at a time; None is as many as fill the cores, and on GPUs `jobs_per_device` on each, by default
    one. By `jobs` the threads of a run are settled, once; nothing else here can change a result. `only` picks rows by
    label or glob. `retry="failed"` tries failed runs again. `stored` counts the runs that only the records of the
    sweep's report have. `replace` moves runs of another config aside instead of refusing them. A run is killed after
    `timeout` seconds, or after `patience` seconds (ten steps, if that is longer) without a step; six times that before
    the first, which may compile. `timing` bounds the exclusive timing pass in seconds; None is a tenth of the training,
    0 none. `slurm` sends the runs to a cluster; its settings are such as {"minutes": 240}.
    """

    jobs: int | None = None
    jobs_per_device: int | None = None
    only: str | Iterable[str] | None = None
    retry: str | None = None
    replace: bool = False
    timeout: float | None = None
    timing: float | None = None
    patience: float = 300.0
    report: bool = True
    stored: bool = True
    slurm: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.retry not in (None, "failed"):
            raise UserError(f"retry={self.retry}: only failed runs can be retried: retry=failed")
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"jobs={self.jobs}: must be at least 1")
        if self.jobs_per_device is not None:
            self._check_jobs_per_device(self.jobs_per_device)
        if self.timeout is not None and not self.timeout > 0:
            raise UserError(f"timeout={self.timeout:g}: must be above 0 (seconds)")
        if not self.patience > 0:
            raise UserError(f"patience={self.patience:g}: must be above 0 (seconds)")
        if self.timing is not None and not self.timing >= 0:
            raise UserError(f"timing={self.timing:g}: must be at least 0 (seconds)")

    def _check_jobs_per_device(self, count: int) -> None:
        if count < 1:
            raise UserError(f"jobs_per_device={count}: must be at least 1")
        if self.jobs is not None:
            raise UserError(f"jobs_per_device={count}: jobs={self.jobs} says already how many runs train at a time")
        if self.slurm is not None:
            raise UserError(f"jobs_per_device={count}: on Slurm each run has GPUs of its own; leave it out")


@dataclass(frozen=True)
class Session:
    """One driver at work."""

    sweep: Sweep
    paths: Paths
    options: Options
    display: Display
    interruption: Interruption
    starters: Starters | SlurmStarters
    stored: StoredRuns
