"""`ablate compare CHANGE ...`: is my change better? A sweep without a sweep file."""

from __future__ import annotations

from ablate.cli import arguments, sweep
from ablate.cli.sweep import text, whole
from ablate.errors import UserError, nearest

HELP = """Train the baseline and each change, and write reports/NAME/, as a sweep does.

usage: ablate compare CHANGE [CHANGE ...] [base=OVERRIDES] [seeds=N] [name=NAME] [settings]

  ablate compare norm=rmsnorm
  ablate compare norm=rmsnorm 'activation=swiglu bias=none'        two changes, the second of two overrides
  ablate compare norm=rmsnorm seeds=3 base='shape=micro trainer.steps=300'

Each argument is one change, compared with the baseline; overrides of all runs, those of the baseline too, go into
base=. Asked again with another change or more seeds it trains what is missing, and the report has all changes made
against that base. It is written as sweeps/NAME.yaml, so that `ablate plan`, `status` and `report` take NAME; without
name= that is made of the base.

settings: seeds= (of every row, the baseline included: 5), and those of `ablate sweep`: jobs=, timing=, retry=failed,
          replace=true, stored=false, report=false, timeout=, patience=, slurm.minutes= ...; paths.* and logger* hold
          for every run
Exit codes: those of `ablate sweep`.
"""
OF_THE_STUDY = {"base": "", "seeds": 5, "name": None}
SETTINGS = {key: reader for key, reader in sweep.SETTINGS.items() if key not in ("only", "budget")} | {
    "base": text,
    "seeds": whole,
    "name": text,
}


def run(words: list[str]) -> int:
    """Write the study and drive it; returns the exit code of the sweep."""
    given = arguments.sort(words)
    for word in given.names:
        raise UserError(f"{word}: a change is one or more overrides, as in norm=rmsnorm{nearest(word, SETTINGS)}")
    cluster, others = sweep.slurm(given.overrides)
    from ablate.study.rows import not_of_a_study

    keys = {word: word.partition("=")[0] for word in others}
    changes = [word for word, key in keys.items() if key not in SETTINGS and not not_of_a_study(key)]
    settings, shared = sweep.split([word for word in others if word not in changes], SETTINGS)
    if not changes:
        raise UserError("ablate compare takes at least one change, as in  ablate compare norm=rmsnorm")
    from ablate.study import changes as study
    from ablate.study.paths import Paths
    from ablate.sweep import command, request

    base, seeds, name = (settings.pop(key, default) for key, default in OF_THE_STUDY.items())
    if seeds < 1:
        raise UserError(f"seeds={seeds}: must be at least 1")
    if cluster is not None:
        settings["slurm"] = cluster
    folder = Paths.of(shared).sweeps
    asked = study.asked(changes, base=study.split(base), seeds=seeds, folder=folder, name=name)
    checked = request.of(asked, shared, settings)
    study.write(asked)  # not before: nothing is kept of a mistake
    return command.drive(checked)
