"""Compiling by layer or as a whole: the same losses, few graphs whatever the depth, nothing compiled again."""

from __future__ import annotations

import os

import pytest
import torch
from torch._dynamo.utils import counters

from ablate.training import compiling
from tests.model.tiny import batch_for, tiny, train_step

BY_LAYER = {  # what layers do with the context that passes through them, and how many graphs that makes
    "relative bias": (["position=relative_bias"], 4),
    "auxiliary losses": (["feedforward=switch"], 8),
    "shared": (["sharing=all"], 4),
    "decoder": (["topology=causal_decoder", "position=rope"], 2),
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv(compiling.FOLDER, str(tmp_path))
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=8, accumulated_recompile_limit=256):
        yield
    torch._dynamo.reset()


@pytest.fixture
def without_kernels(monkeypatch):
    """Graphs are made, and run as they are: no compiler is needed."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda part, **options: compile_module(part, backend="eager", fullgraph=True, **options),
    )


def compiled(how, *options, **shape):
    model = tiny(*options, **shape)
    compiling.prepare(how)
    compiling.compile_for_training(model, how)
    return model


@pytest.mark.parametrize("options_and_graphs", BY_LAYER.values(), ids=BY_LAYER)
def test_layers_that_are_alike_share_a_graph(options_and_graphs, without_kernels):
    options, graphs = options_and_graphs
    plain, model = tiny(*options, n_layers=4), compiled("block", *options, n_layers=4)
    for seed in range(2):
        batch, found = batch_for(model, seed=seed), []
        for one in (plain, model):
            torch.manual_seed(seed)  # experts are chosen with noise
            found.append(train_step(one, batch))
        torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
        for one, other in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)
        assert counters["stats"]["unique_graphs"] == graphs, "compiled again"


def test_more_layers_of_their_own_than_torchs_limit(without_kernels):
    """Each layer draws other blocks at random, and has a graph of its own."""
    model = compiled("block", "attention=block_sparse", "topology=causal_decoder", n_layers=10)
    train_step(model, batch_for(model))
    assert counters["stats"]["unique_graphs"] == 10


def test_the_whole_model_is_one_graph(without_kernels):
    model = compiled("model")
    for seed in range(2):
        train_step(model, batch_for(model, seed=seed))
        assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("how", ["none", "block", "model"])
def test_evaluations_run_as_they_are(how, without_kernels):
    model = compiled(how)
    with compiling.as_it_is(how), torch.no_grad():
        model.eval()(batch_for(model))
    assert "unique_graphs" not in counters["stats"]
    train_step(model, batch_for(model))
    assert bool(counters["stats"]) == (how != "none")


def test_names_of_parameters_stay():
    assert list(compiled("block").state_dict()) == list(tiny().state_dict())


def test_where_kernels_are_kept(monkeypatch, tmp_path):
    compiling.prepare("model")
    assert os.environ[compiling.FOLDER] == str(tmp_path), "as the variable says"
    monkeypatch.delenv(compiling.FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    compiling.prepare("none")
    assert compiling.FOLDER not in os.environ
    compiling.prepare("block")
    assert os.environ[compiling.FOLDER] == "/somewhere/ablate/compiled"
