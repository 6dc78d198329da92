"""A run on disk: its folder, its lock, its record, and how files are written so that none is ever half there.

runs/<sweep>/<row-slug>/seed-<n>/
    config.yaml    resolved, as it was asked for
    record.json    the truth about the run
    metrics.csv    one writer, a line every few steps
    progress.json  the heartbeat, about once a second
    checkpoints/   log.txt   lock
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ablate.errors import UserError

SCHEMA = 1  # of record.json; raised when a key changes its meaning

RUNNING, DONE, DIVERGED, FAILED, PREEMPTED = "running", "done", "diverged", "failed", "preempted"
STATES = (RUNNING, DONE, DIVERGED, FAILED, PREEMPTED)
FINISHED = (DONE, DIVERGED)  # a divergence is a result
STARTING = "starting"  # in progress.json, the phase of a run, begun or resumed, that has not yet taken a step

NAME = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,99}")
_SUFFIX = re.compile(r".*-[0-9a-f]{6}")
_TEMPORARY = ".tmp"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Busy(Exception):
    """Another live process has this run in hand; the command exits with code 75."""


class RunFolder:
    """The folder of one run; nothing is created before `lock()` or `write()`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.record = self.path / "record.json"
        self.metrics = self.path / "metrics.csv"
        self.progress = self.path / "progress.json"
        self.checkpoints = self.path / "checkpoints"
        self.log = self.path / "log.txt"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run while inside; raises `Busy` where another process does.

        The system frees the lock when the process dies, however it dies. What a killed writer left half written is
        swept away first.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _flock(descriptor):
                raise Busy(f"{self.path} is in use by {_holder(descriptor)}")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now()}\n".encode(), 0)
            for folder in (self.path, self.checkpoints):
                for left in folder.glob(f".*{_TEMPORARY}"):
                    left.unlink(missing_ok=True)
            yield
        finally:
            os.close(descriptor)

    def tell_failure(self, process: int, reason: str) -> None:
        """Say what one of a run's processes died of."""
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

    def read(self) -> dict[str, Any] | None:
        """The record, or None where there is none; raises `UserError` where it cannot be read."""
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.record} cannot be read ({error}); move the folder away to run it anew") from None
        if not isinstance(content, dict):
            raise UserError(f"{self.record} is no record; move the folder away to run it anew")
        return content

    def read_config(self) -> dict[str, Any] | None:
        """The config that it was made with, or None where there is none; raises `UserError` where it cannot be read."""
        try:
            content = yaml.load(self.config.read_text(encoding="utf-8"), Loader=_LOADER)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{self.config} cannot be read ({' '.join(str(error).split())[:100]})") from None
        if not isinstance(content, dict):
            raise UserError(f"{self.config} holds no config")
        return content

    def write(self, record: dict[str, Any]) -> None:
        """Replace the record."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write(self.record, json.dumps(record, indent=1, allow_nan=False) + "\n")


def run_path(runs: Path | str, sweep: str, row: str, seed: int) -> Path:
    """`runs/<sweep>/<row-slug>/seed-<n>`; raises `UserError` where that would not lie inside `runs`."""
    if not NAME.fullmatch(str(sweep)):
        raise UserError(
            f"sweep={sweep!r}: a name has 1 to 100 letters, digits and any of . _ = -, and starts with no dot"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: must be a whole number, 0 or more")
    path = Path(runs) / sweep / slug(row) / f"seed-{seed}"
    if not path.resolve().is_relative_to(Path(runs).resolve()):
        raise UserError(f"{path} leads out of {runs}")
    return path


def slug(label: str) -> str:
    """A row's label as the name of a folder: lower case, [a-z0-9._=-], at most 100 characters.

    Where that loses something, a short hash of the label is added, so that two labels never share a folder.
    """
    label = str(label)
    plain = re.sub(r"[^a-z0-9._=-]+", "-", label.lower()).strip("-.") or "row"
    if plain == label and len(plain) <= 100 and not _SUFFIX.fullmatch(plain):
        return plain
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{plain[:93].rstrip('-.')}-{digest}"


def atomic_write(path: Path | str, data: bytes | str) -> None:
    """Write a file so that a reader, or the next start after a crash, sees the old content or the new, whole."""
    with atomic_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path | str) -> Iterator[Any]:
    """A binary file to write, that takes its place under `path` once it is whole and on disk."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256(path: Path | str) -> str:
    """The SHA-256 of a file, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flock(descriptor: int) -> bool:
    """Take the lock; a few tries, because whoever asks for a run's state touches its lock for a moment."""
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


def now() -> str:
    """The time, UTC, as records have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
