"""What can happen to a run, done to it from inside its own process at a chosen moment."""

import os
import signal
import time

import torch

from ablate.evaluation import heldout
from ablate.training import checkpoint, fit
from ablate.training.progress import Progress
from tests.training.standin import Batches


def _self(number):
    os.kill(os.getpid(), number)


def at_step(step, number):
    """A signal when so many steps are done."""

    def fault():
        take = Progress.take

        def patched(self, *numbers):
            take(self, *numbers)
            if self.step == step:
                _self(number)

        Progress.take = patched

    return fault


def in_save(count):
    """SIGKILL in the middle of the file of the `count`-th checkpoint."""

    def fault():
        save, calls = torch.save, []

        class Torn:
            def __init__(self, file):
                self.file = file

            def write(self, data):
                self.file.write(bytes(data)[: len(data) // 2])
                self.file.flush()
                _self(signal.SIGKILL)

        def patched(content, file):
            calls.append(1)
            save(content, Torn(file) if len(calls) == count else file)

        torch.save = patched

    return fault


def before_rename(count):
    """SIGKILL when the `count`-th checkpoint is on disk under another name, and its checksum in place."""

    def fault():
        replace, calls = os.replace, []

        def patched(source, target):
            if str(target).endswith(".ckpt"):
                calls.append(1)
                if len(calls) == count:
                    _self(signal.SIGKILL)
            replace(source, target)

        os.replace = patched

    return fault


def after_rename(count):
    """SIGKILL when the `count`-th checkpoint is there, before an older one goes."""

    def fault():
        prune, calls = checkpoint.CheckpointFolder.prune, []

        def patched(self):
            calls.append(1)
            if len(calls) == count:
                _self(signal.SIGKILL)
            prune(self)

        checkpoint.CheckpointFolder.prune = patched

    return fault


def in_evaluation(count, number):
    """A signal at the begin of the `count`-th held-out evaluation."""

    def fault():
        evaluate, calls = heldout.heldout_loss, []

        def patched(*arguments, **options):
            calls.append(1)
            if len(calls) == count:
                _self(number)
            return evaluate(*arguments, **options)

        heldout.heldout_loss = patched

    return fault


def in_preparation(number):
    """A signal while the text is prepared."""

    def fault():
        from ablate.data import build_corpus

        def patched(cfg, progress=None):
            _self(number)
            time.sleep(5)
            raise AssertionError("the signal was not felt")

        build_corpus.prepare = patched

    return fault


def at_the_end(number):
    """A signal after the last step, before the record says done."""

    def fault():
        keep = fit.Fit._keep

        def patched(self):
            keep(self)
            _self(number)

        fit.Fit._keep = patched

    return fault


def weights_of(step, value):
    """Targets that weigh `value` in the batch of the step of that number (from 1)."""

    def fault():
        make = Batches.make

        def patched(self, *key):
            batch = make(self, *key)
            if key[1] == step - 1:
                batch["weights"] = torch.full(batch["targets"].shape, value)
            return batch

        Batches.make = patched

    return fault
