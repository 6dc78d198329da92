"""Is a run on disk one that the sweep asks for? One judgement for the sweep, its status and its report."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ablate.config import evaluations
from ablate.config.composing import resolve, written
from ablate.config.identity import SCHEMA, is_without_effect
from ablate.config.overrides import key_of
from ablate.config.renamed import renamed
from ablate.errors import UserError
from ablate.run import match
from ablate.run.folder import RunFolder
from ablate.run.record import Record
from ablate.run.status import RunStatus
from ablate.study.definition import Sweep
from ablate.study.paths import Paths
from ablate.study.rows import GIVEN_BY_THE_SWEEP
from ablate.study.runs import overrides, settings
from ablate.study.settled import Settled

DIFFERENT = "different"  # the state of a run that is finished, but with another configuration than the sweep now has


class Membership:
    """Compares runs with `sweep` as its file is now, and with the overrides `extra` that it is given beside that.

    Without `extra`, as for a report on what there is, each run's own command says what it was given. `settled` says
    what stands for "auto".
    """

    def __init__(self, sweep: Sweep, extra: Sequence[str] | None = None, settled: Settled | None = None) -> None:
        self.sweep, self.extra = sweep, extra
        self.settled = settled or Settled(sweep, Paths.of(extra or ()), extra or ())
        self._rows: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}  # composed once

    def config(self, row: str, seed: int) -> dict[str, Any]:
        """The resolved config of a planned run; raises `UserError` for a row that cannot be composed."""
        key = row, tuple(self.extra or ())
        if key not in self._rows:
            self._rows[key] = written(overrides(self.sweep, row, seed, self.extra or ()))
        config = self._rows[key]
        return self._resolved(config, seed)

    def changes(self, folder: RunFolder, record: Record) -> str:
        """How a run of one of the sweep's rows differs from the run that is planned; empty where it does not.

        Raises `UserError` for a row that cannot be composed.
        """
        row = self._row(record)
        return match.changes(folder, record, self._resolved(row, record.seed))

    def _resolved(self, row: dict[str, Any], seed: int) -> dict[str, Any]:
        return self.settled.of(resolve({**row, "seed": {**row["seed"], "base": seed}}))

    def _row(self, record: Record) -> dict[str, Any]:
        """The config of a run's row, composed once, interpolations as they are written."""
        extra = tuple(self._extra(record))
        if (record.row, extra) not in self._rows:
            try:
                row = written(overrides(self.sweep, record.row, record.seed, extra))
            except UserError:
                if not extra or self.extra is not None:
                    raise
                row = written(overrides(self.sweep, record.row, record.seed))  # its command cannot be what was given
            self._rows[record.row, extra] = row
        return self._rows[record.row, extra]

    def _extra(self, record: Record) -> Sequence[str]:
        return extra_of(record) if self.extra is None else self.extra

    def judged(self, status: RunStatus) -> RunStatus:
        """The status; `DIFFERENT`, and why, for a finished run that the sweep as it is now does not count."""
        if not status.finished or status.record is None or status.is_stored:
            return status  # a stored one is taken only where it is the run that is asked for
        try:
            changes = self.changes(RunFolder(status.folder), status.record)
        except UserError:  # a row of a package that is not installed here
            changes = self._other_overrides(status.record)
        return replace(status, state=DIFFERENT, problem=changes) if changes else status

    def reason(self, record: Record, folder: RunFolder | None = None) -> str:
        """Why a run has no place in the sweep's report; empty where it has one.

        Runs of an earlier config schema, and those of which only the record is left, are judged by their overrides.
        """
        if record.row not in self.sweep.rows:
            return f"the sweep has no row {record.row!r}"
        if folder is not None and record.identity and record.identity_schema == SCHEMA:
            try:
                changes = self.changes(folder, record)
            except UserError:  # a row of a package that is not installed here
                pass
            else:
                return f"made with a different configuration: {changes}" if changes else ""
        return self._other_overrides(record)

    def _other_overrides(self, record: Record) -> str:
        """Which overrides of the row the run lacks, or has beside them; their order has no effect."""
        if not record.overrides:
            return ""
        given = _normalised(record.overrides)
        early = "early_fraction"  # set by the sweep's own key, and older than it
        planned = settings(self.sweep, record.row, self._extra(record))
        wanted = [text for text in _normalised(planned) if key_of(text) != early]
        if absent := [text for text in wanted if text not in given]:
            return f"made without {', '.join(absent)}, which the sweep now sets for this row"
        left = [text for text in given if text not in wanted and key_of(text) not in (*GIVEN_BY_THE_SWEEP, early)]
        return f"made with {', '.join(left)}, which the sweep does not set for this row" if left else ""


def extra_of(record: Record) -> list[str]:
    """The overrides that a run of a sweep was given on the command line, beside those of the sweep."""
    try:
        words = shlex.split(record.command)
    except ValueError:
        return []
    return [word for word in words[2:] if "=" in word and key_of(word) not in GIVEN_BY_THE_SWEEP]


def _normalised(texts: Iterable[str]) -> Sequence[str]:
    """Overrides with today's keys, without those that leave the run itself as it is."""
    kept = [renamed(text) for text in texts if not evaluations.is_without_effect(renamed(text))]
    return [text for text in kept if not is_without_effect(key_of(text))]
