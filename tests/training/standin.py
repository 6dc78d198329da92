"""A text that needs no preparing, runs that take a second, and processes that can be killed.

The model is the real one; what lies under `ablate.data` is replaced, so that these tests are about training alone.
"""

import os
import sys
import traceback
from pathlib import Path

import numpy as np
import torch

from ablate import cost
from ablate.config import compose
from ablate.data import batches, build_corpus
from ablate.run.folder import RunFolder, run_path
from ablate.training import run as train

VOCABULARY, TARGETS = 160, 8
TINY = [
    "shape.d_model=16", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=8", "shape.d_ff=16",
    f"shape.vocab_size={VOCABULARY}", "shape.length=16", "shape.batch_tokens=128", "shape.steps=40",
    "trainer.log_every=5", "trainer=cpu", "row=tiny", "dropout=0.1",
]  # fmt: skip


class Corpus:
    """What training asks of a corpus."""

    sha256 = "f" * 64
    token_bytes = np.arange(VOCABULARY) % 5

    def describe(self):
        return {"name": "standin", "sha256": self.sha256, "tokens": 1000}


class Batches:
    """Ids that rise by small steps, from a random start: something to learn, as a function of (seed, step)."""

    def __init__(self, cfg, corpus):
        self.seed, self.length = cfg.seed.data, cfg.objective.length
        self.sequences = cfg.trainer.global_batch_tokens // self.length

    def make(self, *key):
        random = np.random.default_rng(key)
        steps = random.integers(0, 3, (self.sequences, self.length))
        ids = (random.integers(0, VOCABULARY, (self.sequences, 1)) + np.cumsum(steps, axis=1)) % VOCABULARY
        ids = torch.from_numpy(ids)
        targets = ids[:, :TARGETS].contiguous()
        shifted = torch.cat([torch.zeros_like(targets[:, :1]), targets[:, :-1]], dim=1)
        return {"encoder_ids": ids, "decoder_ids": shifted, "targets": targets}

    def micro(self, step, index, count):
        size = self.sequences // count
        batch = self.make(self.seed, step)
        return {name: tensor[index * size : (index + 1) * size] for name, tensor in batch.items()}

    def evaluation(self, n_tokens, seed):
        return [self.make(99, 99, number) for number in range(4)]


def install(monkeypatch):
    """Put the stand-ins in place."""
    from ablate.training import fit, later

    monkeypatch.setattr(build_corpus, "prepare", lambda cfg, progress=None: Corpus())
    monkeypatch.setattr(batches, "Batches", Batches)
    monkeypatch.setattr(fit, "Batches", Batches)
    monkeypatch.setattr(later, "Batches", Batches)
    counted = {
        "parameters": {"total": 1000, "non_embedding": 500, "active": 1000},
        "ops_paper": 1e9, "flops_per_step": 1e9, "tokens_per_step": 192,
    }  # fmt: skip
    monkeypatch.setattr(cost, "cost", lambda cfg, model=None: counted)


def overrides(folder, *more):
    """A tiny run's overrides; `more` win."""
    from ablate.config import merge

    return merge(TINY, [f"paths.runs={folder / 'runs'}", *more])


def folder_of(asked):
    """Where the run that is asked for lies."""
    cfg = compose(asked)
    return RunFolder(run_path(cfg.paths.runs, cfg.sweep, cfg.row, cfg.seed.base))


def run(asked):
    """Run it in this process; returns the record."""
    return train.run(compose(asked), asked, "ablate train ...")


def start(asked, fault=lambda: None, output=os.devnull):
    """Begin a run in a child process, in which `fault` is called first; returns its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            fault()
            code = train.exit_code(lambda: run(asked))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return pid


def wait(pid):
    """Wait for a child; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(asked, fault=lambda: None, output=os.devnull):
    """Run it in a child process, in which `fault` is called first; returns the exit code."""
    return wait(start(asked, fault, output))


def result(folder):
    """What has to be equal however often a run was interrupted: all numbers but times, and the bytes of all weights."""
    lines = [line.split(",") for line in folder.metrics.read_text().splitlines()]
    numbers = [line[:1] + line[2:] for line in lines]  # without the time
    weights = torch.load(Path(folder.checkpoints) / "weights.pt", weights_only=True)["state_dict"]
    record = folder.read()
    return numbers, {name: tensor.numpy().tobytes() for name, tensor in weights.items()}, record.loss
