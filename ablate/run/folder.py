"""The folder of one run, and where it is.

runs/<sweep>/<row-slug>/seed-<n>/
    config.yaml    the resolved config
    record.json    the truth about the run
    metrics.csv    one writer, a line every few steps
    progress.json  the heartbeat, about once a second
    checkpoints/   log.txt   lock
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate import yaml_text
from ablate.errors import UserError
from ablate.naming import check_sweep_name, slug
from ablate.run import lock
from ablate.run.files import IS_LINK, atomic_write, refuse_links, remove_temporary
from ablate.run.json_object import DamagedJSON
from ablate.run.record import Record

_REPLACED = ".replaced-"
_SEED = re.compile(r"seed-(\d+)")


class RunFolder:
    """The folder of one run; nothing is created before `lock()` or `write()`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "record.json"
        self.metrics = self.path / "metrics.csv"
        self.progress = self.path / "progress.json"
        self.checkpoints = self.path / "checkpoints"
        self.weights = self.checkpoints / "weights.pt"  # of a finished run, where they were kept
        self.log = self.path / "log.txt"

    @property
    def lock_file(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / "lock"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run while inside; raises `lock.Busy` where another process does, and `UserError` for a link in it.

        What a killed writer left half written is swept away first.
        """
        self.refuse_links()
        with lock.held(self.lock_file):
            for folder in (self.path, self.checkpoints):
                remove_temporary(folder)
            yield

    def refuse_links(self) -> None:
        """Raise `UserError` where anything that is written here would land elsewhere, by a symbolic link."""
        refuse_links(self.path, self.checkpoints)

    def write_failure(self, process: int, reason: str) -> None:
        """Note what one of a run's processes died of."""
        with contextlib.suppress(OSError):
            atomic_write(self.path / f"failed-{process}.txt", reason)

    def failure(self) -> str:
        """What the processes of the last attempt died of: the one that said so first; empty where none did."""
        found = sorted(self.path.glob("failed-*.txt"), key=lambda path: path.stat().st_mtime_ns)
        return f"process {found[0].stem.removeprefix('failed-')}: {found[0].read_text()}" if found else ""

    def forget_failures(self) -> None:
        """Before another attempt."""
        for path in self.path.glob("failed-*.txt"):
            path.unlink(missing_ok=True)

    def read(self) -> Record | None:
        """The record, or None where there is none; raises `UserError` where it is damaged or of another run."""
        record, problem = self.examine()
        if problem:
            raise UserError(f"{self.path}/{problem}; move the folder away to run it anew")
        return record

    def examine(self) -> tuple[Record | None, str]:
        """The record and an empty string; or None and, where there is one, what is wrong: "record.json cannot be ...".

        Whoever judges by a record reads it here, so that a run that counts for one counts for all.
        """
        try:
            record = read_record(self.record)
        except ValueError as error:
            return None, f"{self.record.name} {error}"
        if record is not None and seed_of(self.path) is not None and not _is_at(record, self.path):
            return None, f"{self.record.name} is of another run ({record.sweep}, {record.row}, seed {record.seed})"
        return record, ""

    def read_config(self) -> dict[str, Any] | None:
        """The config that it was made with, or None where there is none; raises `UserError` where it cannot be read."""
        try:
            content = yaml_text.parse(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.config} cannot be read ({' '.join(str(error).split())[:100]})") from None
        if not isinstance(content, dict):
            raise UserError(f"{self.config} must be a mapping")
        return content

    def write(self, record: Record) -> None:
        """Replace the record; raises `ValueError` for a number that JSON cannot hold."""
        text = json.dumps(record.to_json(), indent=1, allow_nan=False)
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.record, text + "\n")


def read_record(path: Path) -> Record | None:
    """The record in the file at `path`, or None where there is none; raises `ValueError` with what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise ValueError("must be a mapping")
    try:
        return Record.from_json(content)
    except DamagedJSON as error:
        raise ValueError(f"cannot be used: {error}") from None


def _is_at(record: Record, folder: Path) -> bool:
    return folder.absolute().parts[-3:] == (record.sweep, slug(record.row), seed_folder(record.seed))


def seed_folder(seed: int) -> str:
    """The name of a seed's folder below its row's."""
    return f"seed-{seed}"


def seed_of(folder: Path) -> int | None:
    """The seed whose folder this is; None for a folder of another kind, as of a run that was moved aside."""
    match = _SEED.fullmatch(folder.name)
    return int(match[1]) if match else None


def set_aside(folder: Path) -> Path:
    """Rename a run's folder to the first free `<folder>.replaced-<n>`, which counts as a run no more; returns that."""
    number = 1
    while (target := folder.with_name(f"{folder.name}{_REPLACED}{number}")).exists():
        number += 1
    os.rename(folder, target)
    return target


def was_set_aside(folder: Path) -> bool:
    """Whether an earlier run of this folder was set aside."""
    return any(folder.parent.glob(f"{folder.name}{_REPLACED}*"))


def run_folders(runs: Path | str, sweep: str = "*") -> Iterator[Path]:
    """The folders of all runs of a sweep, or of all sweeps, in the order of their paths."""
    for folder in sorted(Path(runs).glob(f"{sweep}/*/seed-*")):
        hidden = any(part.startswith(".") for part in folder.relative_to(runs).parts)
        if seed_of(folder) is not None and not hidden and folder.is_dir():
            yield folder


def run_path(runs: Path | str, sweep: str, row: str, seed: int) -> Path:
    """`runs/<sweep>/<row-slug>/seed-<n>`; raises `UserError` where a link leads out of `runs`, which may be one."""
    check_sweep_name(str(sweep))
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: must be a whole number, 0 or more")
    path = Path(runs) / sweep / slug(row) / seed_folder(seed)
    for folder in (path.parents[1], path.parent, path):
        if folder.is_symlink():
            raise UserError(f"{folder} {IS_LINK}, or make a link of {runs}")
    return path
