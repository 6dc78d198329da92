"""One attempt at a run, by one process: from what an earlier attempt left to the record of this one."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ablate import garbage
from ablate.config import fill, identity, resolved
from ablate.config.identity import depends_on_micro_batch
from ablate.data import build_corpus
from ablate.errors import OutOfMemory, UserError, disk_error, reason_of
from ablate.run import match
from ablate.run.files import atomic_write
from ablate.run.folder import RunFolder, set_content_aside, set_file_aside
from ablate.run.record import DIVERGED, DONE, FAILED, FINISHED, PREEMPTED, RUNNING, Record, now
from ablate.run.status import seconds_spent
from ablate.terminal import say
from ablate.termination import exit_code
from ablate.training import finished, later, out_of_memory, processes, record_fields
from ablate.training.interruption import Interrupted, Interruption
from ablate.training.metrics import Log
from ablate.training.out_of_memory import Shortage

if TYPE_CHECKING:
    from torch import nn


class Attempt:
    """A run to make, the folder where it goes, and `found`, the record that an earlier attempt left there.

    Only the main process writes. A record that is done or diverged is never written again, but for the scores of
    evaluations that it lacks. A damaged one, whose `damage` says what is wrong with it, is rebuilt or set aside; one of
    another run or of a newer version is refused.
    """

    def __init__(
        self,
        cfg: DictConfig,
        overrides: list[str],
        command: str,
        folder: RunFolder,
        meta_model: nn.Module | None = None,
    ) -> None:
        self.cfg, self.overrides, self.command, self.folder = cfg, list(overrides), command, folder
        self.meta_model = meta_model  # of `cfg`, if it is built already: to count on
        self.is_main = processes.is_main()
        self.say = Log(folder.log) if self.is_main else lambda line: None
        self.began = time.monotonic()
        reading = folder.examine()
        self.damage = reading.problem if reading.is_damaged and self.is_main else ""
        self.found = None if self.damage else folder.read()
        self.seconds = seconds_spent(folder.path, self.found) if self.found else 0.0  # of the attempts before
        self.record = self.found or self._begun()
        self.missing: list[str] = []  # evaluations that a finished run lacks
        self.points: dict[str, list[int]] = {}  # points of training, by evaluation, that it lacks

    def work(self) -> Record:
        """Do what is left to do; returns the record."""
        self._guard(self._work)
        return self.record

    def is_settled(self) -> bool:
        """Prepare the text, and say whether nothing is left to do: `record` is a result, or says why there is none.

        What the evaluations cannot do is refused here, in one line, and not by each of the run's processes.
        """
        self._guard(lambda interruption: self._prepare_for_processes())
        return self.record.status != RUNNING and not (self.missing or self.points)

    def after_processes(self, code: int) -> Record:
        """The record that the run's processes left; says so where they died without a word.

        A result stays in the folder as it is, whatever became of the evaluations that were to be added to it.
        """
        cause, status = self.folder.failure(), self.record.status
        if status == DONE and code:
            stops = {exit_code(number): number for number in (signal.SIGINT, signal.SIGTERM)}
            reason = signal.Signals(stops[code]).name if code in stops else cause
            self._finish(PREEMPTED if code in stops else FAILED, reason or f"its processes exited with code {code}")
            return self.record
        # When one dies, torchrun asks the others to end, and the main process may have saved for that.
        died_of_another = status == PREEMPTED and self.folder.death()
        if status == RUNNING or (cause and status == FAILED) or died_of_another:
            self._end(FAILED, cause or f"its processes exited with code {code}")
        return self.record

    def halves_for_processes(self) -> bool:
        """Whether the run's processes, which have failed, are to try half the micro-batch, noted in the record."""
        is_short = self.record.status == FAILED and out_of_memory.WORDS in self.record.reason
        if not (is_short and self.can_halve and (half := out_of_memory.halved(self.cfg))):
            return False
        self.say(f"{self.record.reason}; tried once more with trainer.micro_batch={half} ({self.folder.path})")
        self._write(dataclasses.replace(self.record, micro_batch=half, status=RUNNING, reason=""))
        return True

    def _guard(self, work: Callable[[Interruption], object]) -> None:
        """Whatever ends `work` is said in the record; a person's mistake is raised."""
        with Interruption() as interruption:
            try:
                work(interruption)
            except UserError as error:
                if not (self.found or self.damage):
                    self._finish(FAILED, str(error).splitlines()[0])
                raise
            except (Interrupted, KeyboardInterrupt):
                self._end(PREEMPTED, signal.Signals(interruption.signal or signal.SIGINT).name)
            except Exception as error:  # whatever a run dies of is its own result
                reason = reason_of(error, self.folder.path)
                if processes.is_worker():  # the others may learn of it only as of a connection that is closed
                    self.folder.write_failure(processes.rank(), reason)
                if not (disk_error(error) or isinstance(error, OutOfMemory)):  # which is no fault of a line of code
                    self._say_traceback()
                self._end(FAILED, reason)

    def _say_traceback(self) -> None:
        text = traceback.format_exc().rstrip()
        if not self.is_main:
            say(f"process {processes.rank()}: {text}", file=sys.stderr)
        self.say(text)

    def _work(self, interruption: Interruption) -> None:
        if not self._prepare():
            if self.missing or self.points:
                self._score_later(interruption)
            return
        if self.is_main:
            self.folder.forget_failures()
            atomic_write(self.folder.config, record_fields.as_yaml(resolved(self.cfg)))
        known = record_fields.before_training(self.record, self.cfg, self.corpus, self.identity, self.meta_model)
        self._write(dataclasses.replace(known, seconds=self._seconds()))
        if self.is_main:
            self.folder.progress.unlink(missing_ok=True)  # whose time is in the record now
        self._warn_of_other_hardware()
        self._mirror()
        self._train(interruption)

    def _begun(self) -> Record:
        return record_fields.begun(self.cfg, self.overrides, self.command, self.found, self.seconds)

    def _seconds(self) -> float:
        """Of wall time, over all attempts until now."""
        return self.seconds + time.monotonic() - self.began

    def _prepare(self) -> bool:
        """Prepare the text and compare this run with what is in the folder; False where that is a result already."""
        if not (self.found or self.damage):
            self._write(self._begun())
        self.corpus = build_corpus.prepare(self.cfg, progress=self.say)
        self.identity = identity(self.cfg, self.corpus.sha256)
        if self.damage:
            self._compare(None)
            self._repair()
        begun = self._begun()
        if self.found and self.found.identity:
            self._compare(self.found)
            self.identity = self.found.identity  # its weights and checkpoints have it; a run of an earlier version
            if self.found.status in FINISHED:
                self.missing = finished.missing(self.cfg, self.folder, self.found)
                self.points = finished.points_missing(self.cfg, self.folder, self.found)
                return False
        self._write(begun)
        return True

    def _prepare_for_processes(self) -> None:
        from ablate.evaluation.build import build  # torch

        if self._prepare() or self.missing or self.points:
            build(self.cfg)

    def _repair(self) -> None:
        """Rebuild a damaged record from what is beside it, or make room for another attempt; nothing is deleted."""
        from ablate.training import rebuilding  # torch
        from ablate.training.checkpoint import CheckpointFolder

        rebuilt = rebuilding.record(self._begun(), self.damage, self.cfg, self.corpus, self.folder, self.identity)
        if rebuilt:
            kept, then = set_file_aside(self.folder.record), "it is rebuilt from metrics.csv and the weights"
            self.found = rebuilt
            self._write(rebuilt)
        elif CheckpointFolder(self.folder.checkpoints).all():
            kept, then = set_file_aside(self.folder.record), "the run goes on from its checkpoint"
        else:
            kept, then = set_content_aside(self.folder.path), "the run is made again"
        moved = f"moved to {kept.name}, " if kept else ""
        self.say(f"{self.folder.path}/{self.damage}; {moved}{then}")
        self.damage = ""

    def _compare(self, found: Record | None) -> None:
        """Refuse a folder with another run."""
        if changes := match.changes(self.folder, found, self.cfg, self.corpus.sha256):
            remedy = "choose another sweep, row or seed, or move that folder away"
            raise UserError(match.refusal(self.folder.path, changes, remedy))

    def _warn_of_other_hardware(self) -> None:
        """Say where a run goes on on another kind of device, which is no part of what it is."""
        before, now_on = (one and one.hardware and one.hardware.kind for one in (self.found, self.record))
        if before and before != now_on:
            self.say(f"warning: begun on {before}, now trains on {now_on}: other rounding, other dropout masks")

    def _mirror(self) -> None:
        """Let the logger's mirror, if it has one, follow this attempt."""
        if self.is_main and self.cfg.logger.mirror is not None:
            fill(self.cfg, "logger.mirror").follow(self.folder.path)

    def _train(self, interruption: Interruption) -> None:
        """Train; a step that does not fit into the memory is tried once more with half the micro-batch."""
        cfg = self.cfg
        if self.record.micro_batch:  # as an earlier attempt has found
            cfg = out_of_memory.with_micro_batch(cfg, self.record.micro_batch)
        shortage = self._fit(cfg, interruption)
        is_alone = processes.world_size(cfg) == 1  # several are begun anew by the process that has started them
        if shortage and is_alone and self.can_halve and (half := out_of_memory.halved(cfg)):
            reason = out_of_memory.explained(cfg, shortage)
            self.say(f"{reason}; tried once more with trainer.micro_batch={half} ({self.folder.path})")
            self._write(dataclasses.replace(self.record, micro_batch=half))
            out_of_memory.give_back()
            cfg = out_of_memory.with_micro_batch(cfg, half)
            shortage = self._fit(cfg, interruption)
        if shortage:
            raise OutOfMemory(out_of_memory.explained(cfg, shortage))

    @property
    def can_halve(self) -> bool:
        """Whether the run is the same with half the micro-batch, and has not been halved before."""
        return not self.record.micro_batch and not depends_on_micro_batch(self.cfg)

    def _fit(self, cfg: DictConfig, interruption: Interruption) -> Shortage | None:
        """Train as `cfg` says; returns the lack of memory that a step has met, and then the run has not ended."""
        with garbage.kept():
            from ablate.training.fit import Fit  # Lightning: not needed for a run that is there
        fit = Fit(cfg, self.corpus, self.folder, self.identity, interruption, self.say)
        outcome = fit.run()
        if outcome.shortage:
            return outcome.shortage
        self.record = record_fields.after_training(self.record, outcome.measured, self.cfg)
        if outcome.stopped:
            self._end(PREEMPTED, signal.Signals(interruption.signal or signal.SIGTERM).name)
        elif outcome.diverged:
            self._end(DIVERGED, outcome.diverged)
        else:
            self._end(DONE, "")
        if not outcome.stopped:
            fit.clear()
        return None

    def _score_later(self, interruption: Interruption) -> None:
        """Take the scores that a finished run lacks, and name those that cannot be taken."""
        if self.is_main:
            self.folder.forget_failures()
        run = self.cfg, self.corpus, self.folder, self.identity
        scored = later.score(*run, self.record, self.missing, interruption, self.say)
        self._write(later.merged(self.record, scored, [*self.missing, *self.points]))
        if self.is_main:
            later.add_to_config(self.folder, self.cfg)
        if scored.stopped:
            self._end(PREEMPTED, signal.Signals(interruption.signal or signal.SIGTERM).name)

    def _end(self, status: str, reason: str) -> None:
        self._finish(status, reason)
        self.say(f"{status}{f': {reason}' if reason else ''} ({self.folder.path})")

    def _finish(self, status: str, reason: str) -> None:
        if self.found and self.found.status in FINISHED:
            self.record = dataclasses.replace(self.found, status=status, reason=reason)  # not written over a result
            return
        ended = dataclasses.replace(self.record, status=status, reason=reason, seconds=self._seconds(), finished=now())
        if self.damage:
            self.record = ended  # not written over a record of which something may be left
            return
        try:
            self._write(ended)
        except OSError as error:  # a full disk: the folder looks interrupted, and can be resumed
            say(f"the record cannot be written: {disk_error(error) or error}")

    def _write(self, record: Record) -> None:
        self.record = self.folder.write(record) if self.is_main else record
