"""`ablate train [overrides]`: one run, or several one after the other by Hydra's multirun."""

from __future__ import annotations

import shlex

from ablate.cli import arguments
from ablate.cli.sweep_row import expand_sweep_row, print_result

HELP = """Train one configuration into runs/<sweep>/<row>/seed-<n>/; again, it resumes or returns at once.

usage: ablate train [overrides]

  ablate train norm=rmsnorm shape=micro seed=1
  ablate train trainer.devices=2                     two processes, started by torchrun
  ablate train sweep=axes row="RMS norm" seed=0      one run of a sweep; its label as in the sweep file
  ablate train -m norm=layernorm,rmsnorm seed=0,1    each combination, one after the other (one device)
  ablate train norm=rmsnorm --cfg job [--resolve]    the composed config, nothing else; of a sweep's row too
  ablate train --info defaults                       how it was composed

`ablate options` lists what there is to override. Exit codes: 0 done, 1 failed, 2 a mistake in the command,
3 diverged, 75 another process works on the run, 130 Ctrl-C, 143 SIGTERM or SIGHUP
(the run is saved and resumes).
"""


def run(words: list[str]) -> int:
    """Train what the overrides describe; returns the exit code of `ablate.training.run`."""
    if any(word.startswith("-") for word in words):
        from ablate.cli import hydra_app

        return hydra_app.run(words)
    given = arguments.sort(words)
    overrides = expand_sweep_row(arguments.only_overrides(given, "ablate train"))
    from ablate.config import compose

    cfg = compose(overrides)
    from ablate.training import run as train

    command = shlex.join(["ablate", "train", *words])
    code = train.exit_code(lambda: print_result(train.request(cfg, overrides, command)))
    if code in train.EXIT_CODES.values():
        train.tell_mirrored(cfg)
    return code
