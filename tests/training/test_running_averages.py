"""Running averages follow a global batch, however it is shared, and only where a step is taken."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch import nn

from ablate.config import build_model, compose
from ablate.config.batch import Share
from ablate.training.running_averages import RunningAverages
from tests.training.test_module import Line, training

BATCH = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [2.0, 1.0]])


class Mean(nn.Module):
    """Moves an average by half of the way to the mean of what it sees."""

    running = ("mean",)

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean.lerp_(x.mean(), 0.5)


class Averaging(Line):
    """The line, with such a module."""

    def __init__(self):
        super().__init__()
        self.average = Mean()

    def forward(self, batch):
        self.average(batch["targets"])
        return super().forward(batch)


def after(steps, shared, rank=0):
    model = Averaging()
    module, _ = training(model, BATCH, shared)
    module.slices, module.is_alone = shared.slices(rank), shared.ranks == 1
    parts = [{"targets": part} for part in BATCH.chunk(shared.count)]
    for step in range(steps):
        if module.is_alone:
            module._backward(parts, step)
        else:
            forward(module, parts)
        module.averages.move(module.is_alone)
    return model.average.mean.item()


def forward(module, parts):
    """The forward passes of one process of several."""
    module.averages.begin()
    for index in module.slices:
        module.model(parts[index])
        module.averages.take()


@pytest.mark.parametrize("accumulation", [1, 2, 4])
def test_a_step_moves_them_once_however_many_slices_it_has(accumulation):
    assert after(1, Share(4, 1, accumulation)) == pytest.approx(BATCH.mean().item() / 2)
    assert after(2, Share(4, 1, accumulation)) == pytest.approx(BATCH.mean().item() * 3 / 4)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_move_them_as_one(tmp_path, accumulation):
    def work(rank):
        torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/all", rank=rank, world_size=2)
        (tmp_path / str(rank)).write_text(str(after(2, Share(4, 2, accumulation), rank)))

    children = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    one = after(2, Share(4, 1, 2 * accumulation))
    assert [float((tmp_path / str(rank)).read_text()) for rank in (0, 1)] == [pytest.approx(one)] * 2


def test_a_skipped_step_leaves_them():
    model = Averaging()
    module, batches = training(model, BATCH)
    module.training_step(batches)
    before = model.average.mean.item()
    module.progress.spikes.take = lambda *numbers: True
    module.training_step(batches)
    assert model.average.mean.item() == before != 0.0 and module.progress.step == 2


def test_a_model_that_moves_takes_them_along():
    model = Averaging()
    averages = RunningAverages(model, 1)
    model.to(torch.float64)  # has other tensors from here on, as on another device
    averages.begin()
    model.average(BATCH.double())
    averages.take()
    assert model.average.mean.item() == 0.0
    averages.move(is_alone=True)
    assert model.average.mean.item() == pytest.approx(BATCH.mean().item() / 2)


def test_those_of_batchnorm_are_found():
    model = build_model(compose(["shape=nano", "norm=batchnorm_encoder", "trainer.micro_batch=4"]), device="meta")
    assert len(RunningAverages(model, 1).buffers) == 2 * 13  # two sub-layers a layer of the encoder, and its end
    assert RunningAverages(build_model(compose(["shape=nano"]), device="meta"), 1).buffers == []
