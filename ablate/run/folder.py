"""The folder of one run, and where it is.

runs/<sweep>/<row-slug>/seed-<n>/
    config.yaml    resolved, as it was asked for
    record.json    the truth about the run
    metrics.csv    one writer, a line every few steps
    progress.json  the heartbeat, about once a second
    checkpoints/   log.txt   lock
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ablate.errors import UserError
from ablate.naming import check_sweep_name, slug
from ablate.run import lock
from ablate.run.files import atomic_write, remove_temporary

_SEED = re.compile(r"seed-(\d+)")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
        """Hold the run while inside; raises `lock.Busy` where another process does.

        What a killed writer left half written is swept away first.
        """
        with lock.held(self.lock_file):
            for folder in (self.path, self.checkpoints):
                remove_temporary(folder)
            yield

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


def seed_folder(seed: int) -> str:
    """The name of a seed's folder below its row's."""
    return f"seed-{seed}"


def seed_of(folder: Path) -> int | None:
    """The seed whose folder this is; None for a folder of another kind, as of a run that was moved aside."""
    match = _SEED.fullmatch(folder.name)
    return int(match[1]) if match else None


def run_folders(runs: Path | str, sweep: str = "*") -> Iterator[Path]:
    """The folders of all runs of a sweep, or of all sweeps, in the order of their paths."""
    for folder in sorted(Path(runs).glob(f"{sweep}/*/seed-*")):
        hidden = any(part.startswith(".") for part in folder.relative_to(runs).parts)
        if seed_of(folder) is not None and not hidden and folder.is_dir():
            yield folder


def run_path(runs: Path | str, sweep: str, row: str, seed: int) -> Path:
    """`runs/<sweep>/<row-slug>/seed-<n>`; raises `UserError` where that would not lie inside `runs`."""
    check_sweep_name(str(sweep))
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: must be a whole number, 0 or more")
    path = Path(runs) / sweep / slug(row) / seed_folder(seed)
    if not path.resolve().is_relative_to(Path(runs).resolve()):
        raise UserError(f"{path} leads out of {runs}")
    return path
