"""Where a sweep's files lie, without composing a whole config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.config import library


@dataclass(frozen=True)
class Paths:
    """The folders of conf/config.yaml's `paths`, relative to the current directory."""

    runs: Path
    data: Path
    sweeps: Path
    reports: Path

    @classmethod
    def of(cls, overrides: Sequence[str] = ()) -> Paths:
        """The folders as `overrides` such as paths.runs=/scratch/runs set them."""
        folders = dict(library.load(library.CONF / "config.yaml")["paths"])
        for override in overrides:
            key, _, value = override.partition("=")
            if key.startswith("paths."):
                folders[key.removeprefix("paths.")] = value.strip("'\"")
        return cls(**{name: Path(folders[name]) for name in ("runs", "data", "sweeps", "reports")})
