"""Where a sweep's files are, without composing a whole config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ablate.config import options, resolved
from ablate.config.overrides import key_of, read
from ablate.errors import UserError, nearest

RECORDS = "records.jsonl"  # in the folder of a sweep's report: the records that it was made from


@dataclass(frozen=True)
class Paths:
    """The folders of conf/config.yaml's `paths`, relative to the current directory."""

    runs: Path
    data: Path
    sweeps: Path
    reports: Path

    @classmethod
    def in_config(cls, config: Mapping[str, Any]) -> Paths:
        """The folders of a resolved config."""
        return cls(**{name: Path(folder) for name, folder in config["paths"].items()})

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
        given = [text for text in overrides if key_of(text).startswith("paths.")]
        values, errors = read(given)  # by the grammar that reads them for a run
        if errors:
            raise UserError("\n".join(errors))
        folders |= {override.key.removeprefix("paths."): override.value for override in values}
        try:
            found = resolved(OmegaConf.create({"paths": folders}))["paths"]
        except OmegaConfBaseException as error:
            raise UserError(f"paths: {str(error).splitlines()[0]}") from None
        for name in cls.__dataclass_fields__:
            if not isinstance(found[name], str) or not found[name] or "\0" in found[name]:
                raise UserError(f"paths.{name}={found[name]}: must be the path of a folder")
        return cls(**{name: Path(found[name]) for name in cls.__dataclass_fields__})
