"""Numbers that are possible, alone and together; what a config may read and call."""

from __future__ import annotations

import sys

import pytest
from omegaconf import OmegaConf

from ablate.config import compose, instantiate, resolved, validate, validation
from ablate.config.slots import SLOTS
from ablate.config.validation import problems
from ablate.errors import UserError

IMPOSSIBLE = [
    (["dropout=1"], "dropout=1.0: must be at least 0 and below 1"),
    (["early_fraction=0"], "early_fraction=0.0: must be above 0 and at most 1"),
    (["early_fraction=1.5"], "early_fraction=1.5: must be above 0 and at most 1"),
    (["trainer.steps=0"], "trainer.steps=0: must be a whole number, 1 or more"),
    (["shape.d_model=-3"], "shape.d_model=-3: must not be negative"),
    (["trainer.micro_batch=abc"], "trainer.micro_batch=abc: must be a whole number, 1 or more"),
    (["trainer.devices=0"], "trainer.devices=0: must be a whole number, 1 or more"),
    (["feedforward=switch", "trainer.devices=0"], "trainer.devices=0: must be a whole number, 1 or more"),
    (["feedforward=switch", "shape.length=0"], "shape.length=0: must be a whole number, 1 or more"),
    (["norm.eps=0"], "norm.eps=0.0: must be above 0"),
    (["objective.noise_density=1.0"], "objective.noise_density=1.0: must be above 0 and below 1"),
    (["keep_checkpoints=nothing"], "keep_checkpoints=nothing: must be one of none, weights, all"),
    (["trainer.precision=fp16"], "trainer.precision=fp16: must be one of fp32, bf16; did you mean 'bf16'?"),
    (["attention.n_kv_heads=4"], "attention.n_heads=6 do not divide into attention.n_kv_heads=4 groups"),
    (["position=learned", "objective.length=128"], "objective.length=128 is longer than position.max_length=64"),
    (["shape.batch_tokens=100"], "trainer.global_batch_tokens=100 must be a multiple of objective.length=64"),
    (["trainer.devices=3"], "makes 32 sequences, which 3 devices cannot share equally"),
    (["trainer.micro_batch=5"], "trainer.micro_batch=5 does not divide the 32 sequences that each device has"),
    (["feedforward.d_ff=${of:2/7,shape.d_ff}"], "2/7 of shape.d_ff = 192 is 54.8571, and must be whole"),
    (["feedforward.d_ff=${multiple:0,8/3,shape.d_model}"], "0 must be a whole number, 1 or more"),
    (["feedforward.d_ff=${multiple:8,x,shape.d_model}"], "'x' is not a ratio such as 2/3 or 0.5"),
    (["feedforward.d_ff=${of:x,shape.d_ff}"], "'x' is not a ratio such as 2/3 or 0.5"),
    (["position=sinusoidal", "position.max_timescale=0"], "position.max_timescale=0.0: must be above 1"),
    (["position=rope", "position.base=0"], "position.base=0.0: must be above 1"),
    (
        ["attention=lightweight_convolution", "attention.width=0"],
        "attention.width=0: must be a whole number, 1 or more",
    ),
    (["attention=synthesizer_factorized", "attention.rank=0"], "attention.rank=0: must be a whole number, 1 or more"),
    (
        ["attention=dynamic_convolution", "data.document_mask=true"],
        "attention.within_segments=false reads across their borders",
    ),
    (["schedule.timescale=0"], "schedule.timescale=0: must be above 0"),
    (["feedforward.d_ff=${of:2/3,shape.dff}"], "shape.dff must be a number to calculate with"),
    (["shape.d_ff=${of:2/3,shape.d_ff}"], "refers to itself"),
    (["feedforward.d_ff=${shape.dff}"], "'shape.dff' not found"),
    (["data=hub"], "data.path must be given"),
]


@pytest.mark.parametrize(("overrides", "told"), IMPOSSIBLE, ids=[" ".join(given) for given, _ in IMPOSSIBLE])
def test_impossible_numbers_are_named(overrides, told):
    with pytest.raises(UserError) as caught:
        compose(overrides)
    assert told in str(caught.value)


def test_arithmetic_between_keys():
    cfg = compose(["shape=paper", "feedforward.d_ff=${of:2/3,shape.d_ff}", "head.tied_scale=${sqrt:shape.d_model}"])
    assert cfg.feedforward.d_ff == 2048 and type(cfg.feedforward.d_ff) is int
    assert cfg.head.tied_scale == 768**0.5
    assert compose(["shape=paper"]).head.tied_scale == 768**-0.5


def test_every_option_composes_alone():
    from ablate.config import options

    for group, files in options.groups().items():
        for option in files:
            needs = {"hub": ["data.path=x"]}.get(option, [])
            choice = f"[heldout,{option}]" if options.takes_several(group) and option != "heldout" else option
            validate(compose([f"{group}={choice}", *needs]))


@pytest.mark.parametrize("key", ["early_fraction", "row", "data.name", "keep_checkpoints", "data.source.packages"])
def test_the_environment_is_not_read(key, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "CANARY123")
    with pytest.raises(UserError) as caught:
        compose([f"{key}=${{oc.env:WANDB_API_KEY}}"])
    assert "CANARY123" not in str(caught.value)


def test_paths_may_come_from_the_environment_but_no_secret(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.setenv("WANDB_API_KEY", "CANARY123")
    assert resolved(compose(["paths.runs=${oc.env:SCRATCH}/runs"]))["paths"]["runs"] == "/scratch/runs"
    with pytest.raises(UserError, match="secret") as caught:
        compose(["paths.runs=${oc.env:WANDB_API_KEY}"])
    assert "CANARY123" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("torch.load", "is outside ablate"),
        ("os.system", "is outside ablate"),
        ("ablated.norm.Norm", "is outside ablate"),
        ("ablate.run.folder.os.system", "there is no module 'ablate.run.folder.os'"),
        ("ablate.model.nrom.RMSNorm", "there is no module 'ablate.model.nrom'"),
        ("ablate", "there is no module"),
        ("'ablate.model.norm:x()'", "is not an import path"),
    ],
)
def test_only_known_code_is_called(target, told):
    with pytest.raises(UserError, match="_target_") as caught:
        compose([f"norm._target_={target}"])
    assert told in str(caught.value)


def test_a_target_in_a_list_is_checked_too():
    cfg = OmegaConf.create({**OmegaConf.to_container(compose()), "also": [{"_target_": "os.system"}]})
    with pytest.raises(UserError, match=r"also.0._target_=os.system"):
        validate(cfg)


def test_nothing_is_imported_to_refuse_a_target():
    sys.modules.pop("this", None)
    with pytest.raises(UserError):
        compose(["norm._target_=this.s"])
    assert "this" not in sys.modules


def test_what_a_module_only_imported_is_not_called():
    with pytest.raises(UserError, match="comes from 'pathlib"):
        instantiate({"_target_": "ablate.run.folder.Path", "_args_": ["x"]}, SLOTS["norm"])
    with pytest.raises(UserError, match="did you mean 'RMSNorm'"):
        instantiate({"_target_": "ablate.model.norm.RMSNrm", "_partial_": True}, SLOTS["norm"])


@pytest.mark.parametrize(
    "written",
    [
        "${oc.decode:${oc.env:CANARY}}",
        "${oc.create:{_target_: os.system}}",
        "${oc.${data.name}:CANARY}",
        r"\${oc.env:CANARY}",
        r"x\\\${oc.env:CANARY}",
        "${now:%Y}",
        "${hydra:runtime.cwd}",
        "${ oc.env :CANARY}",
    ],
)
@pytest.mark.parametrize("key", ["name", "source.packages"])
def test_an_interpolation_neither_reads_the_environment_nor_makes_structure(written, key, monkeypatch):
    monkeypatch.setenv("CANARY", "CANARY123")
    tree = OmegaConf.to_container(compose())
    if key == "name":
        tree["data"]["name"] = written
    else:
        tree["data"]["source"]["packages"] = [written]
    (line,) = problems(tree)
    assert line.startswith(f"data.{key}") and "CANARY123" not in line


def test_only_a_path_is_read_from_the_environment_and_not_in_two_steps(monkeypatch):
    monkeypatch.setenv("CANARY", "CANARY123")
    for written in ("${oc.decode:${oc.env:CANARY}}", r"\${oc.env:CANARY}", "${oc.${data.name}:CANARY}"):
        tree = OmegaConf.to_container(compose())
        tree["paths"]["runs"] = written
        assert len(problems(tree)) == 1, written


def test_what_can_be_resolved_is_beside_what_cannot():
    flat, errors = validation.resolve({"a": ["${b}", 1], "b": 3, "c": "${nothing}", "d": "???", "e": "${e}"})
    assert flat == {"a": [3, 1], "b": 3}
    assert [line.partition("=")[0].partition(" ")[0] for line in errors] == ["c", "d", "e"]
    assert errors[1] == "d must be given, as in d=…" and errors[2].endswith("refers to itself")


def test_a_number_without_a_range_is_one_that_torch_can_count():
    from ablate.config.values import problems

    assert problems({"mine.number": 2**63 - 1}) == []
    assert problems({"mine.number": 2**63}) == [
        "mine.number=9223372036854775808: must be at most 9,223,372,036,854,775,807"
    ]
