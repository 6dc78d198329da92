"""One composed config -> one finished run folder."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from ablate import garbage
from ablate.config import build_model
from ablate.config.batch import share
from ablate.config.keys import plain
from ablate.errors import UserError, disk_error, print_error
from ablate.run.folder import RunFolder, run_path
from ablate.run.lock import Busy
from ablate.run.record import DIVERGED, DONE, FAILED, PREEMPTED, Record
from ablate.study.settled import settled
from ablate.terminal import say
from ablate.termination import exit_code as exit_code_of
from ablate.training import finished, processes

EXIT_CODES = {DONE: 0, FAILED: 1, DIVERGED: 3}


def request(cfg: DictConfig, overrides: list[str], command: str) -> Record:
    """What a person asks for: `run`, which leaves no folder behind where it refuses the config or its text."""
    folder = run_folder(cfg)
    is_new = not folder.path.exists()
    try:
        return run(cfg, overrides, command)
    except UserError:
        if is_new and processes.is_main():
            folder.discard(cfg.paths.runs)
        raise


def run(cfg: DictConfig, overrides: list[str], command: str) -> Record:
    """Make or resume the run that `cfg` describes; returns its record, whose `status` says how it ended.

    A run that is done or has diverged is only read. Raises `Busy` where another process works on it, and
    `UserError` where its folder contains a run with another config, or where this one cannot be trained. Anything else
    that goes wrong is in the record (`failed`, and why). Several devices are several processes: started by torchrun
    this is one of them, else it starts them.
    """
    share(cfg)
    folder, cfg = run_folder(cfg), settled(cfg)
    if not processes.is_worker() and (record := finished.find(cfg, folder)):
        return record
    with garbage.kept():
        from ablate.training.attempt import Attempt  # torch
    if not processes.is_main():
        return Attempt(cfg, overrides, command, folder).work()
    meta_model = build_model(cfg, device="meta")  # what cannot be built is refused before a folder is made
    with folder.lock():
        attempt = Attempt(cfg, overrides, command, folder, meta_model)
        if processes.world_size(cfg) == 1 or processes.is_worker():
            return attempt.work()
        if attempt.is_settled():
            return attempt.record
    job = {"config": plain(cfg), "overrides": overrides, "command": command}
    for _ in range(2):  # once more where half the micro-batch may do
        code = processes.launch(cfg, job, folder.path)
        with folder.lock():
            attempt = Attempt(cfg, overrides, command, folder)
            attempt.after_processes(code)
            if not attempt.halves_for_processes():
                break
    return attempt.record


def run_folder(cfg: DictConfig) -> RunFolder:
    """Where the run of `cfg` is, or is to be."""
    return RunFolder(run_path(cfg.paths.runs, cfg.sweep, cfg.row, cfg.seed.base))


def exit_code(call: Callable[[], Record], tell: Callable[[object], None] = print_error) -> int:
    """Call `run` and say how it went: 0 done, 3 diverged, 1 failed, 2 bad input, 75 busy, 143 SIGTERM or
    SIGHUP, 130 Ctrl-C. `tell` prints what kept it from beginning.
    """
    try:
        record = call()
    except Busy as busy:
        tell(busy)
        return busy.exit_code
    except UserError as error:
        tell(error)
        return error.exit_code
    except OSError as error:  # before there was a record that could say so
        if not (line := disk_error(error)):
            raise
        tell(line)
        return EXIT_CODES[FAILED]
    if record.status == PREEMPTED:
        return exit_code_of(signal.Signals[record.reason])
    return EXIT_CODES[record.status]


def tell_mirrored(cfg: DictConfig) -> None:
    """Say in one line how sending the run to where it is mirrored went, which has some seconds for its end."""
    from ablate.config import fill

    mirror = fill(cfg, "logger.mirror") if processes.is_main() else None
    if mirror and (line := mirror.outcome_line(run_folder(cfg).path)):
        say(line)


def measure(cfg: DictConfig, scratch: Path | str, seconds: float) -> dict[str, float | None]:
    """Steps per second (median, p25, p75) of a run that lasts about `seconds`, logging and all, in folder `scratch`.

    Neither evaluates nor saves; None where not one step came after the warm-up.
    """
    from ablate.training.speed import measure_speed

    return measure_speed(cfg, RunFolder(scratch), seconds)
