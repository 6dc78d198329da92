"""Where a sweep's files are, without composing a whole config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.config import options, resolved
from ablate.config.overrides import key_of
from ablate.errors import UserError, nearest


@dataclass(frozen=True)
class Paths:
    """The folders of conf/config.yaml's `paths`, relative to the current directory."""

    runs: Path
    data: Path
    sweeps: Path
    reports: Path

    @classmethod
    def only(cls, overrides: Sequence[str]) -> Paths:
        """The folders, for a command that takes no other override; UserError for one."""
        known = [f"paths.{name}" for name in cls.__dataclass_fields__]
        for override in overrides:
            key, _, value = override.partition("=")
            if key not in known or not value:
                raise UserError(f"{override}: only {', '.join(known)} can be set here{nearest(key, known)}")
        return cls.of(overrides)

    @classmethod
    def of(cls, overrides: Sequence[str] = ()) -> Paths:
        """The folders as `overrides` such as paths.runs=/scratch/runs set them; UserError for an unknown ${...}."""
        folders = dict(options.load(options.CONF / "config.yaml")["paths"])
        for override in overrides:
            if (key := key_of(override)).startswith("paths."):
                folders[key.removeprefix("paths.")] = override.partition("=")[2].strip("'\"")
        try:
            found = resolved(OmegaConf.create({"paths": folders}))["paths"]
        except OmegaConfBaseException as error:
            raise UserError(f"paths: {str(error).splitlines()[0]}") from None
        return cls(**{name: Path(found[name]) for name in cls.__dataclass_fields__})
