"""Layers that are computed again in the backward pass: the same bits, and less that is kept."""

from __future__ import annotations

import gc

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ablate.config import MODEL_SLOTS
from ablate.config.options import groups
from ablate.model.recomputing import layers, recompute
from ablate.training import compiling
from ablate.training.running_averages import RunningAverages
from tests.model.test_options import awake, combinations, fitting
from tests.model.tiny import batch_for, tiny

OF_LAYERS = ("block", "residual", "stack", "sharing", "attention", "position", "norm", "feedforward", "activation")
OPTIONS = [f"{group}={option}" for group in MODEL_SLOTS if group in OF_LAYERS for option in groups()[group]]
DROPOUT = "dropout=0.1"


def topology_of(option):
    return "encoder" if option == "norm=batchnorm" else "encoder_decoder"


def a_step(model, batch, seed=1):
    """Loss, gradients and running averages of one step."""
    model.train()
    model.zero_grad()
    averages = RunningAverages(model, 1)
    averages.begin()
    torch.manual_seed(seed)
    loss, nll = model(batch)
    averages.take()
    loss.backward()
    averages.move(is_alone=True)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {"loss": loss.detach(), "nll": nll.detach(), **gradients, **dict(model.named_buffers())}


def check_equal(model, batch, steps=2):
    """Equal to the bit, step after step."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = []
    for again in (False, True):
        if again:
            recompute(model)
        model.load_state_dict(state)
        found.append([{k: v.clone() for k, v in a_step(model, batch, seed).items()} for seed in range(steps)])
    for plain, other in zip(*found, strict=True):
        assert plain.keys() == other.keys()
        for name, value in plain.items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("option", OPTIONS)
def test_the_same_bits(option):
    model = awake(tiny(option, DROPOUT, f"topology={topology_of(option)}"))
    check_equal(model, batch_for(model))


@pytest.mark.parametrize("row", combinations(), ids="-".join)
def test_the_same_bits_in_combination(row):
    model = awake(tiny(*fitting([*row, DROPOUT], "prefix_decoder")))
    check_equal(model, batch_for(model, padded=True))


class Storages(TorchDispatchMode):
    """The storages that are made while it is entered."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return out

    def alive(self):
        gc.collect()
        return sum(size for storage, size in self.made.values() if not storage.expired())


@pytest.mark.parametrize(
    "option", ["block=serial", "feedforward=switch", "stack=universal", "stack=funnel", "norm=batchnorm_encoder"]
)
def test_a_fraction_of_the_memory_is_held_between_the_passes(option):
    held = []
    for again in (False, True):
        model = tiny(option, n_layers=8)
        if again:
            recompute(model)
        with Storages() as storages:
            loss, _ = model.train()(batch_for(model))
        held.append(storages.alive())
        with storages:
            loss.backward()
        del loss
    plain, recomputed = held
    assert recomputed < 0.5 * plain


def test_not_in_evaluation():
    model = tiny()
    recompute(model)
    calls = []
    next(layers(model)).register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model.eval()(batch_for(model))
    assert len(calls) == 1


COMPILED = [
    pytest.param("block", DROPOUT, id="block-dropout"),
    *(
        pytest.param(how, option, id=f"{how}-{option}", marks=pytest.mark.slow)
        for how in ("block", "model")
        for option in ("position=relative_bias", "feedforward=switch", "sharing=all", DROPOUT, "norm=batchnorm_encoder")
        if (how, option) != ("block", DROPOUT)
    ),
]


@pytest.mark.parametrize(("how", "option"), COMPILED)
def test_compiled(how, option, monkeypatch, tmp_path):
    """Without a break in the graph."""
    monkeypatch.setenv(compiling.FOLDER, str(tmp_path))
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda part, **more: compile_module(part, backend="aot_eager", fullgraph=True, **more),
    )
    found = []
    for again in (False, True):
        torch._dynamo.reset()
        model = tiny(option)
        if again:
            recompute(model)
        compiling.prepare(how)
        compiling.compile_for_training(model, how)
        found.append([{k: v.clone() for k, v in a_step(model, batch_for(model), seed).items()} for seed in range(2)])
    torch._dynamo.reset()
    for plain, other in zip(*found, strict=True):
        for name, value in plain.items():
            torch.testing.assert_close(value, other[name], atol=1e-6, rtol=1e-5, msg=name)
