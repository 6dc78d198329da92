"""Runs whose result stands only in the records of the sweep's report, as in a fresh clone or on a second machine.

A sweep counts them as finished, so that a long one goes on anywhere, in pieces; its report keeps them beside the new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from ablate.errors import UserError
from ablate.report.analysis import records_file
from ablate.run.folder import RunFolder, was_set_aside
from ablate.run.record import FINISHED, Record
from ablate.run.status import MISSING, RunStatus, look
from ablate.study.membership import Membership
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun
from ablate.text import plural

Run = tuple[str, int]  # a row's label and a seed


class StoredRuns:
    """The results in `reports/NAME/records.jsonl` that the sweep of `membership` asks for, read when needed.

    A line is believed where its checksum holds, and where the identity is that of the run as it is asked for now; none
    is where they are not to be counted.
    """

    def __init__(self, membership: Membership, paths: Paths, *, counts: bool = True) -> None:
        self.membership, self.counts = membership, counts
        self.runs = paths.runs
        self.folder = paths.reports / membership.sweep.name
        self._judged: dict[Run, Record | None] = {}

    @property
    def file(self) -> Path:
        """Where they stand."""
        return self.folder / records_file.RECORDS

    def look(self, run: PlannedRun) -> RunStatus:
        """The status of a run, by its folder where it was begun there; else by its stored record."""
        folder = run.folder(self.runs)
        found = look(folder)
        if found.state != MISSING or was_set_aside(folder):
            return found
        record = self._record(run.row, run.seed, folder)
        return RunStatus(folder, record.status, record, is_stored=True) if record else found

    def trained_on(self, data_sha256: Mapping[Run, str]) -> list[Run]:
        """Believe from now on only runs of these corpora; returns those of other ones, which are to be made anew."""
        others = [
            run
            for run, sha256 in data_sha256.items()
            if (record := self._judged.get(run)) is not None and record.data_sha256 != sha256
        ]
        self._judged |= dict.fromkeys(others)
        return others

    def count(self, found: Iterable[RunStatus]) -> str:
        """How many of the runs `found` are stored, ", 3 of them in FILE"; empty where none is."""
        number = sum(status.is_stored for status in found)
        return f", {number} of them in {self.file}" if number else ""

    def problems(self) -> list[str]:
        """A line for what of the file is not believed because it is damaged."""
        bad = self._read[1]
        if not bad:
            return []
        number, reason = next(iter(bad.items()))
        others = f" (and {plural(len(bad) - 1, 'more line')})" if len(bad) > 1 else ""
        return [f"{self.file}, line {number}{others}: not counted: {reason}"]

    def _record(self, row: str, seed: int, folder: Path) -> Record | None:
        run = row, seed
        if run not in self._judged:
            record = self._read[0].get(run)
            self._judged[run] = record if record and self._is_asked_for(record, folder) else None
        return self._judged[run]

    def _is_asked_for(self, record: Record, folder: Path) -> bool:
        """Whether this is the result of the run as it is asked for now; never without identity and checksum."""
        if record.sweep != self.membership.sweep.name or not record.identity or not record.checksum:
            return False
        try:
            return record.status in FINISHED and not self.membership.changes(RunFolder(folder), record)
        except UserError:  # a row of a package that is not installed here
            return False

    @cached_property
    def _read(self) -> tuple[dict[Run, Record], dict[int, str]]:
        """The record of each run, the first where there are several, and what is wrong with which line."""
        return records_file.read_records(self.folder) if self.counts else ({}, {})
