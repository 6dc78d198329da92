"""`ablate profile [overrides]`: what a training step spends its time on, by class of operators."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ablate.cli import arguments
from ablate.errors import UserError
from ablate.terminal import say
from ablate.text import aligned

HELP = """Say what a training step spends its time on: operations against time, by class of operators.

usage: ablate profile [overrides] [--against OVERRIDES] [--rounds N] [--json] [--report FOLDER]

  ablate profile shape=micro
  ablate profile shape=micro norm=layernorm --against norm=rmsnorm --report reports/profile-norms
  ablate profile --report reports/profile-norms                write a report again from its profile.json

The classes are those of Ivanov et al. 2021 (https://arxiv.org/abs/2007.00072): tensor contractions, statistical
normalizations (softmax and norms), element-wise operators. torch's profiler watches some steps of a real run, forward,
backward and update, which leaves nothing in paths.runs. With --against two configurations are measured in turn, the
second with further overrides. A model is profiled as it is written, not compiled, on one device.

  --rounds N        how often each is measured: 1, with --against 6 (an interval takes 5)
  --json            print everything as JSON
  --report FOLDER   store it there as profile.json, and write report.md and a picture from that
"""

ROUNDS, PAIRED_ROUNDS = 1, 6


def run(words: list[str]) -> int:
    """Measure, and print the table or write the report."""
    given = arguments.sort(words, switches=("--json",), valued=("--against", "--rounds", "--report"))
    overrides = arguments.only_overrides(given, "ablate profile")
    against, folder = given.flags.get("--against"), given.flags.get("--report")
    if folder and not overrides and against is None and (Path(folder) / "profile.json").is_file():
        from ablate.report import profile

        say(f"wrote {profile.rebuild(Path(folder))}")
        return 0
    variants = {_label(overrides, against): overrides}
    if against is not None:
        more = arguments.only_overrides(arguments.sort(shlex.split(against)), "--against")
        if not more:
            raise UserError("--against: give overrides, as in --against norm=rmsnorm")
        from ablate.config import merge

        variants[" ".join(more)] = merge(overrides, more)
        if len(variants) == 1:
            raise UserError(f"--against {against}: is the configuration that it is measured against")
    rounds = _count(given.flags.get("--rounds"), ROUNDS if against is None else PAIRED_ROUNDS)
    is_json = "--json" in given.flags
    content = _measured(variants, rounds, (lambda line: None) if is_json else say)
    if is_json:
        say(json.dumps(content, indent=1))
    else:
        _print(content)
    if folder:
        from ablate.report import profile

        path = profile.write(content, Path(folder))
        if not is_json:
            say(f"wrote {path}")
    return 0


def _label(overrides: list[str], against: str | None) -> str:
    """What the first configuration is called: its own values of what the second changes."""
    keys = {word.partition("=")[0] for word in shlex.split(against)} if against else None
    words = [word for word in overrides if keys is None or word.partition("=")[0] in keys]
    return " ".join(words) or "baseline"


def _count(word: str | None, default: int) -> int:
    if word is None:
        return default
    if not (word.isdigit() and int(word) > 0):
        raise UserError(f"--rounds {word}: must be a whole number above 0")
    return int(word)


def _measured(variants: dict[str, list[str]], rounds: int, tell: Callable[[str], None]) -> dict[str, Any]:
    """The content of profile.json: each variant, measured so many times in turn."""
    from ablate.config import compose

    configs = {label: compose(overrides) for label, overrides in variants.items()}
    from ablate.cost import cost
    from ablate.report.analysis.step_profile import SCHEMA
    from ablate.run.folder import RunFolder
    from ablate.training import profiling

    for config in configs.values():
        profiling.check(config)
    flops = {label: cost(config)["flops_per_step"] for label, config in configs.items()}
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in configs}
    for number in range(rounds):
        for label, config in configs.items():
            tell(f"round {number + 1} of {rounds}: {label}")
            with tempfile.TemporaryDirectory(prefix="ablate-profile-") as scratch:
                found[label].append(profiling.profile_steps(config, RunFolder(scratch)).to_json())
    made = _made(next(iter(configs.values())), profiling.STEPS)
    described = [
        {
            "label": label,
            "overrides": _of_model(variants[label]),
            "flops_per_step": flops[label],
            "rounds": found[label],
        }
        for label in configs
    ]
    return {"schema": SCHEMA, "made": made, "variants": described}


def _of_model(overrides: list[str]) -> list[str]:
    """Without those that say where something is on this machine."""
    return [word for word in overrides if not word.startswith("paths.")]


def _made(config: DictConfig, steps: int) -> dict[str, Any]:
    """Where and with what it was measured."""
    import torch

    from ablate.training import environment
    from ablate.training.device import device_type

    hardware = environment.hardware(device_type(config), 1)
    return {
        "device": hardware.device,
        "kind": hardware.kind,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "precision": config.trainer.precision,
        "versions": environment.versions(),
        "git": environment.git_state().sha,
        "steps": steps,
    }


def _print(content: dict[str, Any]) -> None:
    from ablate.report.analysis.step_profile import from_json
    from ablate.report.render import step_profile

    profile = from_json(content)
    for variant in profile.variants:
        say(f"\n{variant.label}")
        say("\n".join(aligned(step_profile.cells(variant), right=range(1, len(step_profile.HEADER)))))
        say(step_profile.timing_line(variant))
        say(step_profile.check_line(variant))
    if len(profile.variants) > 1:
        say("\n" + "\n".join(step_profile.findings(profile)))
    say("\n" + step_profile.made_line(profile))
