"""The runs that are asked for, composed and checked, and held against what already lies on disk."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ablate.config import code_changes, compose, differences, evaluations, identity
from ablate.errors import UserError
from ablate.run.files import read_json
from ablate.run.folder import RunFolder, run_path
from ablate.run.lock import is_held
from ablate.run.record import DONE
from ablate.run.status import RunStatus
from ablate.study.definition import Sweep
from ablate.study.paths import Paths
from ablate.study.runs import PlannedRun


@dataclass(frozen=True, eq=False)
class RunRequest:
    """A planned run with its config, its folder, and the command that a person would type for it."""

    run: PlannedRun
    cfg: DictConfig
    folder: Path
    command: str

    @property
    def name(self) -> str:
        """What it is called on the screen."""
        return f"{self.run.row} · seed {self.run.seed}"

    def is_settled(self, found: RunStatus) -> bool:
        """Whether the run has a result, and all the scores that it can have: without its weights it gets no more."""
        if found.state != DONE or not RunFolder(self.folder).weights.exists():
            return found.finished
        chosen = OmegaConf.to_container(self.cfg[evaluations.GROUP], resolve=True)
        return not evaluations.missing({evaluations.GROUP: chosen}, found.record)


def compose_all(sweep: Sweep, runs: Sequence[PlannedRun], paths: Paths, extra: Sequence[str]) -> list[RunRequest]:
    """Every run's config; raises `UserError` with a line for each row that cannot be run, before any begins."""
    items, errors = [], {}
    for run in runs:
        try:
            cfg = compose(run.overrides)
        except UserError as error:
            for line in str(error).splitlines():
                errors.setdefault(line, run.row)
            continue
        if cfg.trainer.nodes > 1:
            raise UserError("trainer.nodes: a sweep starts runs of one node each; start larger ones by `ablate train`")
        words = ["ablate", "train", f"sweep={sweep.name}", f"row={run.row}", f"seed={run.seed}", *extra]
        folder = run_path(paths.runs, sweep.name, run.row, run.seed)
        items.append(RunRequest(run, cfg, folder, shlex.join(words)))
    if errors:
        raise UserError("\n".join(f"{sweep.name}: {row}: {line}" for line, row in errors.items()))
    return items


def check_against_disk(sweep: Sweep, items: Sequence[RunRequest], replace: bool) -> dict[RunRequest, str]:
    """The runs whose folder was made with another config, and in what it differs; refuses them if not to `replace`."""
    found = {item: changes for item in items if (changes := _changes(item))}
    _refuse_live({item: f"another config ({changes})" for item, changes in found.items()})
    refused: dict[tuple[str, str], list[int]] = {}
    for item, changes in found.items():
        refused.setdefault((item.run.row, changes), []).append(item.run.seed)
    if refused and not replace:
        lines = [
            f"{sweep.name}: {row!r} was run with another config ({len(seeds)} runs): {changes}; "
            "replace=true moves them aside"
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
    """Move aside the runs of another config, `differing`, and those trained on another text; a line for each.

    It is for when all is known to run: the texts are there, `sha256`, and the models can be built. Nothing is moved
    where anything is refused: another text, if not to `replace`, or a run that is under way.
    """
    told = dict(differing)
    for item in items:
        old = (read_json(RunFolder(item.folder).record).get("data") or {}).get("sha256")
        if item in told or not old or old == sha256[item]:
            continue
        told[item] = f"was trained on another text (data.sha256 {old[:12]}, now {sha256[item][:12]})"
        if not replace:
            raise UserError(f"{sweep.name}: {item.name}: {told[item]}; replace=true moves such runs aside")
    _refuse_live(dict.fromkeys(told, "another config or text"))
    return [f"{item.name}: {what}; moved to {_move_aside(item.folder).name}" for item, what in told.items()]


def _refuse_live(items: dict[RunRequest, str]) -> None:
    for item, what in items.items():
        if is_held(RunFolder(item.folder).lock_file):
            raise UserError(f"{item.name}: is under way with {what}; wait for it or stop it")


def _move_aside(folder: Path) -> Path:
    """Rename a run's folder to the first free `<folder>.replaced-<n>`."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.replaced-{number}")).exists():
        number += 1
    os.rename(folder, target)
    return target


def _changes(item: RunRequest) -> str:
    """In what the config on disk differs from the one asked for; empty where it does not, or where there is none."""
    try:
        old = RunFolder(item.folder).read_config()
    except UserError as error:
        return str(error)
    if old is None:
        return ""
    told = [f"{key} {_shown(before)} -> {_shown(after)}" for key, before, after in differences(old, item.cfg)]
    if told:
        more = f" and {len(told) - 4} more" if len(told) > 4 else ""
        return ", ".join(told[:4]) + more
    record = read_json(RunFolder(item.folder).record)
    if changed := code_changes(record.get("code"), item.cfg):
        return ", ".join(changed)
    data = (record.get("data") or {}).get("sha256")
    if data and record.get("identity") and record["identity"] != identity(item.cfg, data):
        return "the same keys, but the version of what they mean has changed"
    return ""


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "nothing" if value is None else str(value)
