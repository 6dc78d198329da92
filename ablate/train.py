"""One composed config -> one finished run folder."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ablate.errors import UserError
from ablate.record import DIVERGED, DONE, FAILED, FINISHED, PREEMPTED, RUNNING, SCHEMA, Busy, RunFolder, run_path

Record = dict[str, Any]
EXIT_CODES = {DONE: 0, FAILED: 1, DIVERGED: 3}
BUSY = 75


def run(cfg: DictConfig, overrides: list[str], command: str) -> Record:
    """Make or resume the run that `cfg` describes; returns its record, whose `status` says how it ended.

    A run that is done or has diverged is only read. Raises `Busy` where another process has it in hand, and
    `UserError` where its folder was made with another config, or where nothing can be made of this one. Anything else
    that goes wrong is in the record (`failed`, and why). Several devices are several processes: started by torchrun
    this is one of them, else it starts them.
    """
    from ablate.training import processes
    from ablate.training.batching import share

    share(cfg)
    folder = RunFolder(run_path(cfg.paths.runs, cfg.sweep, cfg.row, cfg.seed.base))
    if processes.wanted(cfg) > 1 and not processes.is_worker():
        processes.launch(cfg, overrides, command)
        return folder.read() or {"status": FAILED, "reason": "its processes left no record"}
    attempt = _Attempt(cfg, list(overrides), command, folder)
    if not processes.is_main():
        return attempt.work()
    with folder.lock():
        return attempt.work()


def exit_code(call: Callable[[], Record]) -> int:
    """Call `run` and say how it went: 0 done, 3 diverged, 1 failed, 2 bad input, 75 busy, 143 SIGTERM, 130 Ctrl-C."""
    try:
        record = call()
    except Busy as busy:
        print(f"ablate: {busy}", file=sys.stderr)
        return BUSY
    except UserError as error:
        for line in str(error).splitlines():
            print(f"ablate: {line}", file=sys.stderr)
        return 2
    if record["status"] == PREEMPTED:
        return 128 + signal.Signals[record["reason"]]
    return EXIT_CODES[record["status"]]


def measure(cfg: DictConfig, scratch: Path | str, seconds: float) -> dict[str, float | None]:
    """Steps per second (median, p25, p75) of a run that lasts about `seconds`, logging and all, in folder `scratch`.

    Neither evaluates nor saves; None where not one step came after the warm-up.
    """
    from ablate.training.speed import measure_speed

    return measure_speed(cfg, RunFolder(scratch), seconds)


class _Attempt:
    """One attempt at a run, by one process."""

    def __init__(self, cfg: DictConfig, overrides: list[str], command: str, folder: RunFolder) -> None:
        from ablate.training import processes
        from ablate.training.metrics import Log

        self.cfg, self.overrides, self.command, self.folder = cfg, overrides, command, folder
        self.is_main = processes.is_main()
        self.say = Log(folder.log) if self.is_main else lambda line: None
        self.began = time.monotonic()
        self.found = folder.read()  # what an earlier attempt left
        self.record: Record = dict(self.found or {})

    def work(self) -> Record:
        """Do what is left to do; returns the record."""
        from ablate.training.interruption import Interrupted, Interruption

        with Interruption() as interruption:
            try:
                if self._begin():
                    self._train(interruption)
            except UserError as error:
                if not self.found:
                    self._finish(FAILED, str(error).splitlines()[0])
                raise
            except (Interrupted, KeyboardInterrupt):
                self._end(PREEMPTED, signal.Signals(interruption.signal or signal.SIGINT).name)
            except Exception as error:  # whatever a run dies of is its own result, told in its record
                self.say(traceback.format_exc().rstrip())
                self._end(FAILED, reason_of(error))
        return self.record

    def _begin(self) -> bool:
        """Prepare the text and compare what is asked with what is there; False where nothing is left to do."""
        from ablate.config import identity
        from ablate.data import corpus

        if not self.found:
            self._write(self._asked())
        self.corpus = corpus.prepare(self.cfg, progress=self.say)
        self.identity = identity(self.cfg, self.corpus.sha256)
        if self.found and self.found.get("identity"):
            self._compare()
            if self.found["status"] in FINISHED:
                return False
        self._write_config()
        self._write({**self._asked(), **self._known_before()})
        return True

    def _train(self, interruption: Any) -> None:
        from ablate.training.fit import Fit

        outcome = Fit(self.cfg, self.corpus, self.folder, self.identity, interruption, self.say).run()
        self.record.update(self._with_rates(outcome.measured))
        if outcome.stopped:
            self._end(PREEMPTED, signal.Signals(interruption.signal or signal.SIGTERM).name)
        elif outcome.diverged:
            self._end(DIVERGED, outcome.diverged)
        else:
            self._end(DONE, "")

    def _compare(self) -> None:
        """Refuse a folder that holds another run."""
        from omegaconf import OmegaConf

        from ablate.config import differences

        if self.found["identity"] == self.identity:
            return
        told = []
        if self.folder.config.exists():
            before = OmegaConf.to_container(OmegaConf.load(self.folder.config), resolve=True)
            told = [f"{key} was {old}, is {new}" for key, old, new in differences(before, self.cfg)]
        if (self.found.get("data") or {}).get("sha256") != self.corpus.sha256:
            told.append("its text was another (data.sha256)")
        raise UserError(
            f"{self.folder.path} holds another run: {'; '.join(told) or 'its identity differs'}; "
            "choose another sweep, row or seed, or move that folder away"
        )

    def _asked(self) -> Record:
        """Every key of a record, with what is known from the start."""
        cfg = self.cfg
        return {
            "schema": SCHEMA,
            "sweep": cfg.sweep,
            "row": cfg.row,
            "overrides": self.overrides,
            "command": self.command,
            "seed": cfg.seed.base,
            "identity": None,
            "status": RUNNING,
            "reason": "",
            **dict.fromkeys(("versions", "git", "hardware", "data", "parameters", "ops_paper", "flops_per_step")),
            **dict.fromkeys(("tokens_per_step", "steps_per_second", "tokens_per_second", "mfu", "peak_memory_bytes")),
            **dict.fromkeys(("data_wait_fraction", "loss", "step", "finished")),
            "downstream": {},
            "tags": tags(self.overrides),
            "seconds": (self.found or {}).get("seconds") or 0.0,
            "attempts": ((self.found or {}).get("attempts") or 0) + 1,
            "started": (self.found or {}).get("started") or _now(),
        }

    def _known_before(self) -> Record:
        """What can be said before training: identity, text, costs, versions."""
        from ablate.cost import cost
        from ablate.training import environment, processes
        from ablate.training.fit import device_type

        return {
            "identity": self.identity,
            "versions": environment.versions(),
            "git": environment.git_state(),
            "hardware": environment.hardware(device_type(self.cfg), processes.wanted(self.cfg)),
            "data": self.corpus.describe(),
            **cost(self.cfg),
        }

    def _with_rates(self, measured: Record) -> Record:
        """What was measured, and what follows from it and from the costs."""
        from ablate.training import environment

        speed, device = measured["steps_per_second"]["median"], self.record["hardware"]
        if speed is None:
            return measured
        precision = self.cfg.trainer.precision
        return {
            **measured,
            "tokens_per_second": speed * self.record["tokens_per_step"],
            "mfu": environment.mfu(
                speed * self.record["flops_per_step"], device["device"], precision, device["devices"]
            ),
        }

    def _end(self, status: str, reason: str) -> None:
        self._finish(status, reason)
        self.say(f"{status}{f': {reason}' if reason else ''} ({self.folder.path})")

    def _finish(self, status: str, reason: str) -> None:
        if self.found and self.found.get("status") in FINISHED:
            self.record = {**self.found, "status": status, "reason": reason}  # told, but not written over a result
            return
        seconds = (self.record.get("seconds") or 0.0) + time.monotonic() - self.began
        self._write({**self._unless_there(), "status": status, "reason": reason, "seconds": seconds, "finished": _now()})

    def _unless_there(self) -> Record:
        return {} if "schema" in self.record else self._asked()

    def _write(self, changes: Record) -> None:
        self.record.update(changes)
        if self.is_main:
            self.folder.write(self.record)

    def _write_config(self) -> None:
        import yaml

        from ablate.config import resolved
        from ablate.record import atomic_write

        if self.is_main:
            atomic_write(self.folder.config, yaml.safe_dump(resolved(self.cfg), sort_keys=False, allow_unicode=True))


def tags(overrides: list[str]) -> list[str]:
    """The axes on which a run was told what to be, as `group:option`."""
    from ablate.config import MODEL_SLOTS

    axes = {*MODEL_SLOTS, "objective", "data", "tokenizer", "optimizer", "schedule"}
    pairs = [override.partition("=") for override in overrides]
    return [f"{key}:{value}" for key, _, value in pairs if key in axes]


def reason_of(error: Exception) -> str:
    """What a run died of, in a line, with what helps where that is known."""
    text = " ".join(str(error).split())[:300]
    kind = type(error).__name__
    if kind in ("OutOfMemoryError", "MemoryError") or "can't allocate memory" in text:
        return f"out of memory ({text or kind}); a smaller trainer.micro_batch needs less"
    if isinstance(error, OSError) and error.errno == 28:
        return f"the disk is full ({error.filename or text})"
    return f"{kind}: {text}" if text else kind


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
