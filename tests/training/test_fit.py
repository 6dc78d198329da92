"""The trainer that a run is given."""

from __future__ import annotations

import datetime
import os
import warnings

import pytest
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ablate.config import compose
from ablate.run.folder import RunFolder
from ablate.training.checkpoint import AtomicCheckpointIO
from ablate.training.fit import agenda, make_trainer
from ablate.training.progress import Agenda
from tests.training.standin import run


@pytest.fixture
def trainer(tmp_path):
    return lambda *overrides: make_trainer(compose(["trainer=cpu", *overrides]), "cpu", RunFolder(tmp_path), [])


def test_one_process(trainer, tmp_path):
    made = trainer()
    assert isinstance(made.strategy, SingleDeviceStrategy) and made.world_size == 1
    assert isinstance(made.strategy.checkpoint_io, AtomicCheckpointIO)
    assert made.max_steps == made.max_epochs == -1 and made.num_sanity_val_steps == made.limit_val_batches == 0
    assert made.loggers == [] and made.checkpoint_callback is None and made.progress_bar_callback is None
    assert made.default_root_dir == str(tmp_path) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("worker", "cluster"), [(False, LightningEnvironment), (True, TorchElasticEnvironment)])
def test_several_processes(trainer, monkeypatch, worker, cluster):
    """Of torchrun where it started this process; none waits longer than ten minutes for another."""
    if worker:
        numbers = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
        for name, value in (numbers | {"TORCHELASTIC_RUN_ID": "one"}).items():
            monkeypatch.setenv(name, str(value))
    made = trainer("trainer.devices=2", "trainer.nodes=2")
    strategy = made.strategy
    assert isinstance(strategy, DDPStrategy) and isinstance(strategy.cluster_environment, cluster)
    assert (made.num_devices, made.num_nodes, made.world_size) == (2, 2, 4)
    assert strategy.process_group_backend == "gloo" and strategy._timeout == datetime.timedelta(minutes=10)
    assert strategy._ddp_kwargs == {"gradient_as_bucket_view": True}
    assert isinstance(strategy.checkpoint_io, AtomicCheckpointIO)


@pytest.mark.parametrize(
    ("steps", "fraction", "early"), [(1000, 0.1, 100), (1000, 1, 1000), (3, 0.1, 1), (15, 0.5, 8), (7, 0.001, 1)]
)
def test_the_early_loss_is_taken_at_its_part_of_the_steps(steps, fraction, early):
    cfg = compose([
        f"trainer.steps={steps}", f"early_fraction={fraction}", "trainer.log_every=7", "trainer.evaluate_every=20",
        "trainer.checkpoint_every=30",
    ])  # fmt: skip
    assert agenda(cfg) == Agenda(steps, early, log_every=7, evaluate_every=20, checkpoint_every=30)


def test_what_is_due_when():
    due = Agenda(steps=100, early_step=15, log_every=30, evaluate_every=40, checkpoint_every=45)
    steps = range(1, 101)
    assert [step for step in steps if due.logs(step)] == [1, 30, 60, 90, 100]
    assert [step for step in steps if due.evaluates(step)] == [15, 40, 80, 100]
    assert [step for step in steps if due.saves(step)] == [45, 90]
    assert [step for step in steps if due.pauses(step)] == [1, 15, 30, 40, 45, 60, 80, 90, 100]
    rarely = Agenda(steps=100, early_step=15, log_every=1000, evaluate_every=None, checkpoint_every=None)
    assert [step for step in steps if rarely.pauses(step)] == [1, 15, 100]


def test_lightning_does_not_ask_for_srun_where_slurm_is_installed(asked, tmp_path, monkeypatch):
    """It finds the command and warns; a sweep on Slurm is started by sbatch, and a run alone needs neither."""
    command = tmp_path / "bin" / "srun"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # it warns in the first process only, and other tests are others
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(asked()).status == "done"
    assert not [warning for warning in caught if "srun" in str(warning.message)]
