"""`ablate train [overrides]`: one run, or several one after the other by Hydra's multirun."""

from __future__ import annotations

import os
import shlex
from typing import Any

from ablate.cli import arguments
from ablate.errors import UserError

HELP = """Train one configuration into runs/<sweep>/<row>/seed-<n>/; asked again, it resumes or returns at once.

usage: ablate train [overrides]

  ablate train norm=rmsnorm shape=micro seed=1
  ablate train trainer.devices=2                     two processes, started by torchrun
  ablate train sweep=axes row="RMS norm" seed=0      one run of a sweep; its label as in the sweep file
  ablate train -m norm=layernorm,rmsnorm seed=0,1    each combination, one after the other (one device)
  ablate train norm=rmsnorm --cfg job [--resolve]    the composed config, nothing else; of a sweep's row too
  ablate train --info defaults                       how it was composed

`ablate options` lists what there is to override. Exit codes: 0 done, 1 failed, 2 a mistake in what was asked,
3 diverged, 75 the run is in other hands, 130 Ctrl-C, 143 SIGTERM (the run is saved and resumes).
"""


def run(words: list[str]) -> int:
    """Train what the overrides describe; returns the exit code of `ablate.training.run`."""
    if any(word.startswith("-") for word in words):
        from ablate.cli import hydra_app

        return hydra_app.run(words)
    asked = arguments.sort(words)
    overrides = of_sweep(arguments.only_overrides(asked, "ablate train"))
    from ablate.config import build_model, compose

    cfg = compose(overrides)
    build_model(cfg, device="meta")  # what cannot be built is told before a folder is made
    from ablate.training import run as train

    command = shlex.join(["ablate", "train", *words])
    return train.exit_code(lambda: told(train.run(cfg, overrides, command)))


def told(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a run, after one line of how it ended is printed by the process that writes it."""
    final = (record.get("loss") or {}).get("final")
    if final is not None and os.environ.get("RANK", "0") == "0":
        print(f"{record['row']}, seed {record['seed']}: {record['status']}, final loss {final:.4f} nats a token")
    return record


def of_sweep(overrides: list[str]) -> list[str]:
    """The overrides with those of the sweep's row that `sweep=NAME row=LABEL` names; as they are without `sweep=`."""
    from ablate.config.overrides import unquoted
    from ablate.sweep import plan
    from ablate.sweep.paths import Paths

    given = {key: value for key, _, value in (word.partition("=") for word in overrides)}
    if "sweep" not in given:
        return overrides
    sweep = plan.load(unquoted(given["sweep"]) or "", Paths.of(overrides).sweeps)
    if "row" not in given:
        raise UserError(f"sweep={sweep.name} needs row=LABEL (one of: {', '.join(sweep.rows)})")
    seed = given.get("seed", given.get("seed.base", "0"))
    if not seed.isdecimal():
        raise UserError(f"seed={seed}: must be a whole number")
    extra = [word for word in overrides if word.partition("=")[0] not in ("sweep", "row", "seed", "seed.base")]
    return list(plan.overrides(sweep, unquoted(given["row"]) or "", int(seed), extra))
