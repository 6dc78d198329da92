"""Hydra's own main behind `ablate train`: multirun, and what shows the config without training."""

from __future__ import annotations

import math
import shlex
import signal
import sys

from ablate.cli.arguments import unknown_flag
from ablate.cli.sweep_row import expand_sweep_row, print_result
from ablate.config import build_model, compose, options
from ablate.config.composing import with_preset
from ablate.config.overrides import ALIASES
from ablate.errors import UserError, nearest
from ablate.terminal import say
from ablate.termination import Terminated, exit_code

MULTIRUN = ("-m", "--multirun")
PARTS = ("job", "hydra", "all")
INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
SHOWING = {"--cfg": PARTS, "-c": PARTS, "--info": INFOS, "-i": INFOS, "--package": None, "-p": None, "--resolve": ()}
ALLOWED = ("hydra/launcher", "hydra.launcher.", "hydra/sweeper", "hydra.sweeper.")


def run(words: list[str]) -> int:
    """Check every combination, then let Hydra run or show it; returns the worst exit code."""
    flags, overrides = _split(words)
    own = [word for word in overrides if word.startswith(("hydra.", "hydra/"))]
    for word in own:
        if not word.startswith(ALLOWED):
            raise UserError(f"{word}: only hydra/launcher, hydra/sweeper and their settings may be given")
    overrides = [_alias(word) for word in overrides if word not in own]
    multirun = any(flag in flags for flag in MULTIRUN)
    if not multirun:
        overrides = with_preset(expand_sweep_row(overrides))
    for cell in _cells(overrides) if multirun else [overrides]:
        _check(cell, multirun)
    return _by_hydra([*flags, *overrides, *own], shlex.join(["ablate", "train", *words]))


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the overrides."""
    flags, overrides = [], []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            overrides.append(word)
        elif name in MULTIRUN or SHOWING.get(name) == ():
            flags.append(word)
        elif name in SHOWING:
            value = value if equals else queue.pop(0) if queue else ""
            choices = SHOWING[name]
            if choices and value not in choices:
                raise UserError(f"{name} {value}: must be one of {', '.join(choices)}{nearest(value, choices)}")
            flags += [name, value]
        else:
            raise unknown_flag(word, (*MULTIRUN, *SHOWING))
    return flags, overrides


def _alias(word: str) -> str:
    key, equals, value = word.partition("=")
    return f"{ALIASES[key]}={value}" if equals and key in ALIASES else word


def _cells(overrides: list[str]) -> list[list[str]]:
    """The override list of each job of a multirun, as Hydra's own sweeper splits them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
        for given in parsed:
            if isinstance(given.value(), Glob):
                example = f"{given.key_or_group}=one,another"
                raise UserError(f"{given.input_line}: name the options, as in {example}; glob is not supported here")
        batches = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except HydraException as error:
        raise UserError(f"cannot be read: {str(error).splitlines()[0]}") from None
    return [list(cell) for batch in batches for cell in batch]


def _check(cell: list[str], multirun: bool) -> None:
    for word in cell:
        if multirun and word.startswith(("sweep=", "row=")):
            raise UserError(f"{word}: rows of a sweep file are run by `ablate sweep NAME`, or one by `ablate train`")
    cfg = compose(cell)
    devices = math.prod(count for count in (cfg.trainer.devices, cfg.trainer.nodes) if isinstance(count, int))
    if not multirun:
        return
    if devices > 1:
        raise UserError(
            f"--multirun keeps to one device and was given {devices}; run each alone: "
            f"{shlex.join(['ablate', 'train', *cell])}"
        )
    build_model(cfg, device="meta")


def _by_hydra(words: list[str], command: str) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from ablate.config.resolvers import register

    register()
    ended: list[tuple[str, int]] = []  # each job and its exit code

    def task(_: DictConfig) -> None:
        from ablate.training import run as train

        overrides = list(HydraConfig.get().overrides.task)
        code = train.exit_code(lambda: print_result(train.request(compose(overrides), overrides, command)))
        ended.append((" ".join(overrides) or "the baseline", code))
        if code == exit_code(signal.SIGINT):
            raise KeyboardInterrupt  # which Hydra does not take for the failure of one job
        if code == exit_code(signal.SIGTERM):
            raise Terminated

    search = [f"file://{folder}" for folder in options.folders()[1:]]
    quiet = [
        "hydra.output_subdir=null",
        "hydra.run.dir=.",
        "hydra.sweep.dir=multirun",
        "hydra.sweep.subdir=.",
        "hydra/job_logging=stdout",
        f"hydra.searchpath=[{','.join(search)}]",
    ]
    sys.argv = ["ablate", *words, *quiet]
    try:
        hydra.main(version_base="1.3", config_path=str(options.CONF), config_name="config")(task)()
    finally:
        if any(flag in words for flag in MULTIRUN):
            _summarize(ended)
    return max((code for _, code in ended), default=0)


def _summarize(ended: list[tuple[str, int]]) -> None:
    """A line for each job of a multirun that was begun."""
    outcomes = {
        0: "done",
        3: "diverged",
        exit_code(signal.SIGINT): "interrupted",
        exit_code(signal.SIGTERM): "terminated",
    }
    for job, code in ended:
        say(f"{outcomes.get(code, 'failed'):11}  {job}")
