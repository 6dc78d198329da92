"""`ablate sweep NAME`: every run of a sweep, and its report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ablate.cli import arguments
from ablate.config import common_words, keys
from ablate.config.overrides import ALIASES
from ablate.duration import seconds_of
from ablate.errors import UserError, nearest

HELP = """Run every row of sweeps/NAME.yaml that has no result yet, time the rows, write reports/NAME/.

usage: ablate sweep NAME [overrides] [settings] [--dry-run]

  ablate sweep axes
  ablate sweep axes jobs=2 shape=micro           overrides go to every run; a row's own overrides win
  ablate sweep axes only='RMS norm,SwiGLU'       some rows: labels or globs
  ablate sweep axes retry=failed                 failed runs once more
  ablate sweep axes replace=true                 runs that were made with another config are moved aside
  ablate sweep axes stored=false                 runs that a committed report has are trained here, too
  ablate sweep axes budget=2h                    with fewer seeds where all of them take longer, but at least three
  ablate sweep axes --dry-run                    builds each row, says what it would do

settings: jobs= (runs at a time: as many as fill the cores, on GPUs jobs_per_device= on each: 1), only=,
          budget= (time for all), retry=failed, replace=true, stored=false, report=false, timeout= (seconds a run may
          take), patience= (seconds without a step), timing= (seconds for the timing pass)
on Slurm: slurm.minutes=240 (the longest that a run may take), and such as slurm.partition=gpu slurm.memory_gb=32: the
          runs become one array of jobs, jobs= of them at a time (tried without a cluster only)
Exit codes: 0 every run has a result, 1 some have none, 2 a mistake in the command, 130 Ctrl-C,
143 SIGTERM or SIGHUP (a closed terminal, unless under nohup).
"""


def run(words: list[str]) -> int:
    """Drive the sweep; returns its exit code."""
    given = arguments.sort(words, switches=("--dry-run",))
    name = arguments.one_name(given, "sweep", "ablate sweep")
    cluster, others = slurm(given.overrides)
    settings, overrides = split(others, SETTINGS)
    if cluster is not None:
        settings["slurm"] = cluster
    from ablate.sweep import command

    return command.run(name, overrides, dry_run="--dry-run" in given.flags, **settings)


def slurm(words: list[str]) -> tuple[dict[str, Any] | None, list[str]]:
    """The settings of a Slurm cluster, None where the runs stay on this machine, and the other words."""
    mine = [word for word in words if word.partition("=")[0].partition(".")[0] == "slurm"]
    others = [word for word in words if word not in mine]
    if not mine or mine == ["slurm=false"]:
        return None, others
    settings: dict[str, Any] = {}
    for word in mine:
        key, _, value = word.partition("=")
        if key == "slurm":
            boolean(key, value)
        else:
            settings[key.removeprefix("slurm.")] = int(value) if value.isdigit() else text(key, value)
    return settings, others


def split(words: list[str], known: dict[str, Callable[[str, str], Any]]) -> tuple[dict[str, Any], list[str]]:
    """The verb's own settings, read, and the overrides; raises `UserError` for a word that is neither."""
    settings: dict[str, Any] = {}
    overrides = []
    for word in words:
        key, _, value = word.partition("=")
        if key in settings:
            raise UserError(f"{word}: {key} is given twice")
        if key in known:
            settings[key] = known[key](key, value)
        elif key in ALIASES:
            raise UserError(
                f"{word}: seeds are the sweep file's (seeds: {{baseline: 5, rows: 3}}); `ablate train` runs one"
            )
        elif "." not in key and not keys.exists(key.lstrip("+~")):
            hint = common_words.hint(key) or nearest(key, known) or keys.suggestion(key)
            raise UserError(f"{word}: no setting and no group{hint}")
        else:
            overrides.append(word)
    return settings, overrides


def whole(key: str, value: str) -> int:
    """A whole number from the command line."""
    try:
        return int(value)
    except ValueError:
        raise UserError(f"{key}={value}: must be a whole number") from None


def number(key: str, value: str) -> float:
    """A number from the command line."""
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{key}={value}: must be a number") from None


def boolean(key: str, value: str) -> bool:
    """true or false from the command line."""
    if value not in ("true", "false"):
        raise UserError(f"{key}={value}: must be true or false")
    return value == "true"


def text(key: str, value: str) -> str:
    """A word from the command line."""
    if not value:
        raise UserError(f"{key}= needs a value")
    return value


def time(key: str, value: str) -> float:
    """A time from the command line, in seconds."""
    try:
        return seconds_of(value)
    except ValueError:
        raise UserError(f"{key}={value}: must be a time such as 45min, 2h or 1.5d") from None


SETTINGS: dict[str, Callable[[str, str], Any]] = {
    "jobs": whole,
    "jobs_per_device": whole,
    "budget": time,
    "only": text,
    "retry": text,
    "replace": boolean,
    "timeout": number,
    "patience": number,
    "timing": number,
    "report": boolean,
    "stored": boolean,
}
