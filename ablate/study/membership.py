"""Is a run on disk one that the sweep asks for? One judgement for the sweep, its status and its report."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from ablate.config import evaluations
from ablate.config.composing import resolve, written
from ablate.config.identity import SCHEMA, is_without_effect
from ablate.config.overrides import key_of, merge
from ablate.config.renamed import renamed
from ablate.errors import UserError
from ablate.run import match
from ablate.run.folder import RunFolder
from ablate.run.record import Record
from ablate.study.definition import Sweep
from ablate.study.rows import GIVEN_BY_THE_SWEEP
from ablate.study.runs import overrides


class Membership:
    """Compares runs with `sweep` as its file is now; what a run was given beside that, its command says."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._rows: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}  # composed once

    def changes(self, folder: RunFolder, record: Record) -> str:
        """How a run of one of the sweep's rows differs from the run that is planned; empty where it does not.

        Raises `UserError` for a row that cannot be composed.
        """
        extra = tuple(extra_of(record))
        row = self._rows.get((record.row, extra))
        if row is None:
            row = self._rows[record.row, extra] = written(overrides(self.sweep, record.row, record.seed, extra))
        return match.changes(folder, record, resolve({**row, "seed": {**row["seed"], "base": record.seed}}))

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
        sweep, given = self.sweep, _normalised(record.overrides)
        wanted = _normalised(merge(sweep.base, extra_of(record), sweep.rows[record.row]))
        if absent := [text for text in wanted if text not in given]:
            return f"made without {', '.join(absent)}, which the sweep now sets for this row"
        early = "early_fraction"  # set by the sweep's own key, and older than it
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
