"""The runs of a sweep, composed and checked, and compared with what is on disk already."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.config import evaluations
from ablate.config.composing import resolve, written
from ablate.config.root import Trainer
from ablate.errors import UserError
from ablate.run import match
from ablate.run.files import refuse_links
from ablate.run.folder import RunFolder, run_path, set_aside
from ablate.run.lock import is_held
from ablate.run.record import DONE
from ablate.run.status import RunStatus
from ablate.study.definition import Sweep
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun
from ablate.study.settled import Settled

REMEDY = "replace=true moves such runs aside"


@dataclass(frozen=True, eq=False)
class RunRequest:
    """A planned run with its resolved config, its folder, and the command that a person would type for it."""

    run: PlannedRun
    config: dict[str, Any]
    folder: Path
    command: str

    @property
    def name(self) -> str:
        """What it is called on the screen."""
        return f"{self.run.row} · seed {self.run.seed}"

    @property
    def trainer(self) -> Trainer:
        """How it is trained, and on what."""
        return Trainer(**self.config["trainer"])

    def is_settled(self, found: RunStatus) -> bool:
        """Whether the run has a result, and all the scores that it can have: without its weights it gets no more.

        Points of training without a score are named in its record.
        """
        if found.state != DONE or found.record is None or found.is_stored:
            return found.finished
        record = found.record.to_json()
        if evaluations.missing(self.config, record):
            return not RunFolder(self.folder).weights.exists()
        return not evaluations.points_missing(self.config, record)


def compose_all(
    sweep: Sweep, runs: Sequence[PlannedRun], paths: Paths, extra: Sequence[str], settled: Settled
) -> list[RunRequest]:
    """Every run's config, composed once a row; raises `UserError` with a line for each row that cannot be run."""
    items: list[RunRequest] = []
    errors: dict[str, str] = {}
    rows: dict[str, dict[str, Any]] = {}  # interpolations as they are written; empty for a row in error
    for run in runs:
        if run.row not in rows:
            try:
                rows[run.row] = written(run.overrides)
            except UserError as error:
                rows[run.row] = {}
                for line in str(error).splitlines():
                    errors.setdefault(line, run.row)
        if not (row := rows[run.row]):
            continue
        config = settled.of(resolve({**row, "seed": {**row["seed"], "base": run.seed}}))
        if config["trainer"]["nodes"] > 1:
            raise UserError("trainer.nodes: a sweep starts runs of one node each; start larger ones by `ablate train`")
        words = ["ablate", "train", f"sweep={sweep.name}", f"row={run.row}", f"seed={run.seed}", *extra]
        folder = run_path(paths.runs, sweep.name, run.row, run.seed)
        items.append(RunRequest(run, config, folder, shlex.join(words)))
    if errors:
        raise UserError("\n".join(f"{sweep.name}: {row}: {line}" for line, row in errors.items()))
    return items


def check_against_disk(sweep: Sweep, items: Sequence[RunRequest], replace: bool) -> dict[RunRequest, str]:
    """The runs whose folder was made with another config, and what differs; refuses them if not to `replace`.

    To `replace` are also those whose record cannot be used.
    """
    for folder in {item.folder.parents[1] for item in items}:
        refuse_links(folder)
    for item in items:
        RunFolder(item.folder).refuse_links()
    found = {item: changes for item in items if (changes := (replace and _problem(item)) or _changes(item))}
    _refuse_live(found)
    refused: dict[tuple[str, str], list[int]] = {}
    for item, changes in found.items():
        refused.setdefault((item.run.row, changes), []).append(item.run.seed)
    if refused and not replace:
        lines = [
            match.refusal(f"{sweep.name}: {row!r}", changes, REMEDY, len(seeds))
            for (row, changes), seeds in refused.items()
        ]
        raise UserError("\n".join(lines))
    return found


def make_room(
    sweep: Sweep,
    items: Sequence[RunRequest],
    differing: dict[RunRequest, str],
    sha256: dict[RunRequest, str],
    replace: bool,
) -> list[str]:
    """Move aside the runs of another config, `differing`, and those trained on other data; a line for each.

    It is for when all is known to run: the texts are there, `sha256`, and the models can be built. Nothing is moved
    where anything is refused: other data, if not to `replace`, or a run that is under way.
    """
    changed = check_data(sweep, items, differing, sha256, replace)
    return [f"{item.name}: {changes}; moved to {set_aside(item.folder).name}" for item, changes in changed.items()]


def check_data(
    sweep: Sweep,
    items: Sequence[RunRequest],
    differing: dict[RunRequest, str],
    sha256: dict[RunRequest, str],
    replace: bool,
) -> dict[RunRequest, str]:
    """The runs `differing`, and those trained on other data, which are refused if not to `replace`."""
    changed = dict(differing)
    for item in items:
        if item not in changed and (changes := _changes(item, sha256[item])):
            changed[item] = changes
            if not replace:
                raise UserError(match.refusal(f"{sweep.name}: {item.name}", changes, REMEDY))
    _refuse_live(changed)
    return changed


def _refuse_live(changed: dict[RunRequest, str]) -> None:
    for item, changes in changed.items():
        if is_held(RunFolder(item.folder).lock_file):
            raise UserError(
                f"{item.name}: is under way with a different configuration ({changes}); wait for it or stop it"
            )


def _problem(item: RunRequest) -> str:
    """What is wrong with the record on disk; empty where there is none, or nothing is."""
    return RunFolder(item.folder).examine().problem


def _changes(item: RunRequest, data_sha256: str | None = None) -> str:
    """How the run on disk differs from the one to make; empty where it does not, or where there is none to compare."""
    folder = RunFolder(item.folder)
    record = folder.examine().record  # of a damaged one the config is compared
    return match.changes(folder, record, item.config, data_sha256)
