"""What `ablate train` and its multirun share: a sweep's row as overrides, and the line that says how a run ended."""

from __future__ import annotations

from ablate.config.overrides import unquoted
from ablate.errors import UserError
from ablate.run.record import Record
from ablate.study import definition, runs
from ablate.study.paths import Paths
from ablate.terminal import say
from ablate.training import processes


def print_result(record: Record) -> Record:
    """The record of a run, after one line of how it ended is printed by the process that writes it."""
    if record.final_loss is not None and processes.is_main():
        ended = f"{record.status}, final loss {record.final_loss:.4f} nats a token"
        say(f"{record.row}, seed {record.seed}: {ended}")
    return record


def expand_sweep_row(overrides: list[str]) -> list[str]:
    """The overrides with those of the sweep's row that `sweep=NAME row=LABEL` names; as they are without `sweep=`."""
    given = {key: value for key, _, value in (word.partition("=") for word in overrides)}
    if "sweep" not in given:
        return overrides
    sweep = definition.load(unquoted(given["sweep"]) or "", Paths.of(overrides).sweeps)
    if "row" not in given:
        raise UserError(f"sweep={sweep.name} needs row=LABEL (one of: {', '.join(sweep.rows)})")
    seed = given.get("seed", given.get("seed.base", "0"))
    if not seed.isdecimal():
        raise UserError(f"seed={seed}: must be a whole number")
    extra = [word for word in overrides if word.partition("=")[0] not in ("sweep", "row", "seed", "seed.base")]
    return list(runs.overrides(sweep, unquoted(given["row"]) or "", int(seed), extra))
