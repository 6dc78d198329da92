"""`ablate report NAME`: the report of a sweep, from its records."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.cli import arguments
from ablate.errors import UserError
from ablate.terminal import say

if TYPE_CHECKING:
    from ablate.integrations.wandb import Mirror

HELP = """Write reports/NAME/ from the sweep's run folders; runs whose folders are gone are taken from the records
next to the report, if they match the sweep as it is now (remove records.jsonl to leave them out).

usage: ablate report NAME [only=ROWS] [--strict] [logger=wandb]

  ablate report axes
  ablate report axes only='RMS norm,*GLU' shows these rows in the plots in any case, where a sweep has too many for all
  ablate report axes logger=wandb sends its table and plots to Weights & Biases, as they are sent without
                                  asking where the sweep's runs were
  ablate report c4/causal         one context of a sweep that has several; c4 alone writes those of all
  ablate report axes --strict     exit code 1 where a record could not be read; the report is written all the same
"""


def run(words: list[str]) -> int:
    """Write the report, print its verdicts and its path, and name on stderr what had to be left out of it."""
    given = arguments.sort(words, switches=("--strict",))
    name = arguments.one_name(given, "sweep", "ablate report")
    from ablate.report import build
    from ablate.study.paths import Paths

    logger = [word for word in given.overrides if word.startswith("logger")]
    named = [word for word in given.overrides if word.startswith("only=")]
    only = named[-1].removeprefix("only=") if named else None
    paths = Paths.only([word for word in given.overrides if word not in (*logger, *named)])
    has_problems = False
    for table in _tables(name, paths.sweeps):
        mirror = _mirror_asked_for(logger) if logger else _mirror_of_runs(table, paths.runs)
        written = build.build(table, paths.runs, paths.reports, paths.sweeps, only)
        say("\n".join([*written.lines, str(written.path)]))
        if mirror:
            mirror.close_sweep(table, paths.runs, paths.reports)
            if line := mirror.outcome_line(paths.runs / table):
                say(line)
        for problem in written.problems:
            say(f"left out: {problem}", file=sys.stderr)
        has_problems |= bool(written.problems)
    return 1 if has_problems and "--strict" in given.flags else 0


def _tables(name: str, sweeps: Path) -> list[str]:
    """What has a report of its own: the sweep, or each of its contexts."""
    from ablate.study import definition, inheritance

    if inheritance.find(name, sweeps) is None:
        return [name]  # runs without a sweep file
    return [table.name for table in definition.load(name, sweeps).tables]


def _mirror_asked_for(overrides: list[str]) -> Mirror | None:
    from ablate.config import compose
    from ablate.integrations.wandb import mirror_of

    return mirror_of(compose(overrides).logger)


def _mirror_of_runs(name: str, runs: Path) -> Mirror | None:
    """Where the runs of the sweep are shown.

    A folder of runs may come from a stranger, whose config does not decide to which account a report is sent.
    """
    from ablate.integrations.wandb import Mirror, mirror_of
    from ablate.run.folder import RunFolder, run_folders
    from ablate.yaml_text import SharedBlocks

    configs = SharedBlocks()
    for folder in run_folders(runs, name):
        with contextlib.suppress(UserError):
            logger = (RunFolder(folder).read_config(configs.parse) or {}).get("logger")
            if not (isinstance(logger, dict) and logger.get("mirror")):
                continue
            mirror = mirror_of(logger)
            if isinstance(mirror, Mirror) and mirror.entity not in (None, os.environ.get("WANDB_ENTITY")):
                say(f"W&B: not sent; logger=wandb logger.mirror.entity={mirror.entity} sends it to that account")
                return None
            return mirror
    return None
