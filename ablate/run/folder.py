"""The folder of one run, and where it is.

runs/<sweep>/<row-slug>/seed-<n>/, in a context runs/<sweep>/<context>/<row-slug>/seed-<n>/
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
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import yaml_text
from ablate.errors import UserError
from ablate.naming import check_study_name, slug
from ablate.run import json_text, lock, metrics_csv
from ablate.run.files import IS_LINK, atomic_write, refuse_links, remove_temporary
from ablate.run.json_object import DamagedJSON
from ablate.run.record import NewerRecord, Record

_REPLACED, _DAMAGED = ".replaced-", ".damaged-"
DEATH = "died.txt"
MOST_WORDS = 2**20  # bytes of what a process says that it died of
_SEED = re.compile(r"seed-(\d+)")


def step_name(step: int) -> str:
    """What is kept of a run after `step` steps is called so."""
    return f"step-{step:08d}"


def checkpoint_name(step: int) -> str:
    """The name of the file with the state of a run after `step` steps."""
    return f"{step_name(step)}.ckpt"


@dataclass(frozen=True)
class Reading:
    """What a folder has of a record: the record, nothing at all, or what is wrong with it: "record.json cannot be ...".

    is_damaged: it says nothing that can be believed, so that another attempt may replace it; without it a record with a
    problem is another's: of another run, or of a newer version.
    """

    record: Record | None
    problem: str = ""
    is_damaged: bool = False


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

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint after `step` steps is, if it was kept."""
        return self.checkpoints / checkpoint_name(step)

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

    def write_death(self, reason: str) -> None:
        """Note what a run of several processes died of, as who started them saw it; empty: it has not died."""
        path = self.path / DEATH
        with contextlib.suppress(OSError):
            atomic_write(path, reason) if reason else path.unlink(missing_ok=True)

    def death(self) -> str:
        """What `write_death` noted of the last attempt."""
        return _words(self.path / DEATH)

    def failure(self) -> str:
        """What the last attempt died of: as who started its processes saw it, else the one of them that said so first.

        Empty where nobody knows.
        """
        if death := self.death():
            return death
        found = sorted(self.path.glob("failed-*.txt"), key=lambda path: path.stat().st_mtime_ns)
        return f"process {found[0].stem.removeprefix('failed-')}: {_words(found[0])}" if found else ""

    def forget_failures(self) -> None:
        """Before another attempt."""
        self.write_death("")
        for path in self.path.glob("failed-*.txt"):
            path.unlink(missing_ok=True)

    def read(self) -> Record | None:
        """The record, or None where there is none; raises `UserError` where it is damaged or of another run."""
        found = self.examine()
        if found.problem:
            raise UserError(f"{self.path}/{found.problem}; move the folder away to run it anew")
        return found.record

    def discard(self, runs: Path | str) -> None:
        """Delete the folder of a run that never began, and those above it up to `runs` that are empty then.

        Of any other run nothing is deleted.
        """
        never_began = {self.record.name, self.config.name, self.log.name, self.lock_file.name}
        with contextlib.suppress(OSError, lock.Busy), lock.held(self.lock_file):
            if {path.name for path in self.path.iterdir()} <= never_began:
                shutil.rmtree(self.path)
                above = len(self.path.relative_to(runs).parts)
                for folder in (*self.path.parents,)[:above]:
                    folder.rmdir()

    def examine(self) -> Reading:
        """The record, and what is wrong where it cannot be used.

        Whoever judges by a record reads it here, so that a run that counts for one counts for all.
        """
        try:
            record = read_record(self.record)
        except NewerRecord as error:
            return Reading(None, f"{self.record.name} cannot be used: {error}")
        except ValueError as error:
            return Reading(None, f"{self.record.name} {error}", is_damaged=True)
        if record is None:
            left = self._result_without_record()
            return Reading(None, f"{self.record.name} is missing beside {left}" if left else "", is_damaged=bool(left))
        if seed_of(self.path) is not None and not _is_at(record, self.path):
            of = f"({record.sweep:.40}, {record.row:.80}, seed {record.seed})"
            return Reading(None, f"{self.record.name} is of another run {of}")
        if against := metrics_csv.contradiction(record, self.metrics):
            return Reading(None, f"{self.record.name} {against}", is_damaged=True)
        return Reading(record)

    def _result_without_record(self) -> str:
        """The file that a training left although there is no record, which is written before it; empty without one."""
        kept = (self.weights, *self.checkpoints.glob("step-*.ckpt"), self.metrics)
        return next((path.relative_to(self.path).as_posix() for path in kept if path.is_file()), "")

    def read_config(self, parse: Callable[[str], Any] = yaml_text.parse) -> dict[str, Any] | None:
        """The config that it was made with, or None where there is none; raises `UserError` where it cannot be read.

        `parse` reads the text, for the configs of many runs `yaml_text.SharedBlocks().parse`.
        """
        try:
            content = parse(json_text.read_text(self.config))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.config} cannot be read ({' '.join(str(error).split())[:100]})") from None
        if not isinstance(content, dict):
            raise UserError(f"{self.config} must be a mapping")
        return content

    def write(self, record: Record) -> Record:
        """Replace the record; returns it as it is written, with its checksum.

        Raises `ValueError` for a number that JSON cannot hold.
        """
        written = record.with_checksum()
        text = json.dumps(written.to_json(), indent=1, allow_nan=False)
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.record, text + "\n")
        return written


def _words(path: Path) -> str:
    """What was noted in a file; empty where there is none, or none that can be read."""
    try:
        return json_text.read_text(path, MOST_WORDS)
    except (OSError, ValueError):
        return ""


def read_record(path: Path) -> Record | None:
    """The record in the file at `path`, or None where there is none; raises `ValueError` with what is wrong with it."""
    try:
        content = json_text.read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot be read ({' '.join(str(error).split())[:160]})") from None
    if not isinstance(content, dict):
        raise ValueError("must be a mapping")
    try:
        return Record.from_json(content)
    except NewerRecord:
        raise
    except DamagedJSON as error:
        raise ValueError(f"cannot be used: {error}") from None


def _is_at(record: Record, folder: Path) -> bool:
    place = (*record.sweep.split("/"), slug(record.row), seed_folder(record.seed))
    return folder.absolute().parts[-len(place) :] == place


def seed_folder(seed: int) -> str:
    """The name of a seed's folder below its row's."""
    return f"seed-{seed}"


def seed_of(folder: Path) -> int | None:
    """The seed whose folder this is; None for a folder of another kind, as of a run that was moved aside."""
    match = _SEED.fullmatch(folder.name)
    return int(match[1]) if match else None


def set_aside(folder: Path) -> Path:
    """Rename a run's folder to the first free `<folder>.replaced-<n>`, which counts as a run no more; returns that."""
    target = _first_free(folder, _REPLACED)
    os.rename(folder, target)
    return target


def set_content_aside(folder: Path) -> Path:
    """Move what is in a run's folder to where `set_aside` would, for the holder of its lock; lock and log stay."""
    target = _first_free(folder, _REPLACED)
    target.mkdir()
    for path in sorted(folder.iterdir()):
        if path.name not in ("lock", "log.txt"):
            os.rename(path, target / path.name)
    return target


def set_file_aside(path: Path) -> Path | None:
    """Rename a damaged file to the first free `<file>.damaged-<n>`; returns that, or None where there is no file."""
    if not os.path.lexists(path):
        return None
    target = _first_free(path, _DAMAGED)
    os.rename(path, target)
    return target


def _first_free(path: Path, ending: str) -> Path:
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}{ending}{number}")):
        number += 1
    return target


def was_set_aside(folder: Path) -> bool:
    """Whether an earlier run of this folder was set aside."""
    return any(folder.parent.glob(f"{folder.name}{_REPLACED}*"))


def run_folders(runs: Path | str, sweep: str = "*") -> Iterator[Path]:
    """The folders of all runs of a sweep, or of all sweeps and their contexts, in the order of their paths."""
    names = (sweep,) if sweep != "*" else ("*", "*/*")
    for folder in sorted(folder for name in names for folder in Path(runs).glob(f"{name}/*/seed-*")):
        hidden = any(part.startswith(".") for part in folder.relative_to(runs).parts)
        if seed_of(folder) is not None and not hidden and folder.is_dir():
            yield folder


def run_path(runs: Path | str, sweep: str, row: str, seed: int) -> Path:
    """`runs/<sweep>/<row-slug>/seed-<n>`, in a context `runs/<sweep>/<context>/<row-slug>/seed-<n>`.

    Raises `UserError` where a link leads out of `runs`, which may be one.
    """
    check_study_name(str(sweep))
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: must be a whole number, 0 or more")
    path = Path(runs)
    for part in (*sweep.split("/"), slug(row), seed_folder(seed)):
        path /= part
        if path.is_symlink():
            raise UserError(f"{path} {IS_LINK}, or make a link of {runs}")
    return path
