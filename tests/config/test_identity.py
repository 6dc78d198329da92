"""Two runs are the same run where nothing that can change the result differs."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from ablate.config import compose, differences, identity, resolved


@pytest.mark.parametrize(
    "override",
    [
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.log_every=3",
        "trainer.checkpoint_every=3",
        "paths.runs=elsewhere",
        "keep_checkpoints=all",
        "sweep=other",
        "row=another",
        "dropout=0",
    ],
)
def test_what_cannot_change_a_result_is_left_out(override):
    assert identity(compose([override]), "x") == identity(compose(), "x")
    assert differences(compose([override]), compose()) == []


@pytest.mark.parametrize(
    "override",
    ["norm=rmsnorm", "seed=1", "seed.init=1", "trainer.threads=2", "trainer.precision=bf16", "trainer.compile=model",
     "trainer.micro_batch=4", "early_fraction=0.5", "shape.steps=7"],
)  # fmt: skip
def test_what_can_is_not(override):
    assert identity(compose([override]), "x") != identity(compose(), "x")


@pytest.mark.parametrize("option", ["norm=batchnorm_encoder", "feedforward=switch", "feedforward=mixture_of_experts"])
def test_what_mixes_sequences_depends_on_how_many_a_device_takes_at_once(option):
    alone, shared = compose([option]), compose([option, "trainer.devices=2"])
    assert identity(alone, "x") != identity(shared, "x")
    assert identity(shared, "x") != identity(compose([option, "trainer.devices=2", "trainer.micro_batch=8"]), "x")


def test_the_text_belongs_to_it():
    assert identity(compose(), "x") != identity(compose(), "y")
    assert len(identity(compose(), "x")) == 16


def test_a_config_on_disk_has_the_same_identity(tmp_path):
    cfg = compose(["norm=rmsnorm", "seed=2"])
    OmegaConf.save(OmegaConf.create(resolved(cfg)), tmp_path / "config.yaml")
    again = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    assert identity(again, "x") == identity(cfg, "x")


def test_differences_name_the_keys():
    found = differences(compose(["shape.steps=7"]), compose())
    assert found == [("shape.steps", 7, 200), ("trainer.steps", 7, 200)]
