"""Two runs are the same run where nothing that can change the result differs."""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ablate.config import MODEL_SLOTS, compose, differences, effective, identity, options, resolved, sources
from ablate.config.identity import SCHEMA, depends_on_micro_batch
from ablate.config.options import groups


def test_it_is_a_hash_of_what_determines_a_result():
    """By which runs of years ago are found: no part of it changes but with SCHEMA."""
    text = f'{{"config":{{"a":"\\u00e4","b":1}},"data":"x","schema":{SCHEMA}}}'
    assert identity({"b": 1, "a": "ä"}, "x") == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "override",
    [
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.log_every=3",
        "trainer.checkpoint_every=3",
        "trainer.micro_batch=4",
        "trainer.recompute=true",
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
     "early_fraction=0.5", "shape.steps=7"],
)  # fmt: skip
def test_what_can_is_not(override):
    assert identity(compose([override]), "x") != identity(compose(), "x")


@pytest.mark.parametrize("option", ["norm=batchnorm_encoder", "feedforward=switch", "feedforward=mixture_of_experts"])
def test_what_mixes_sequences_depends_on_how_many_a_device_takes_at_once(option):
    alone, shared = compose([option]), compose([option, "trainer.devices=2"])
    assert identity(alone, "x") != identity(shared, "x")
    assert identity(shared, "x") != identity(compose([option, "trainer.devices=2", "trainer.micro_batch=8"]), "x")


@pytest.mark.parametrize("option", ["norm=batchnorm_encoder", "feedforward=switch", "dropout=0.1"])
def test_what_depends_on_the_micro_batch(option):
    assert depends_on_micro_batch(compose([option]))
    assert identity(compose([option, "trainer.micro_batch=4"]), "x") != identity(compose([option]), "x")


def test_nothing_else_does():
    assert not depends_on_micro_batch(compose()) and not depends_on_micro_batch(compose(["norm=rmsnorm"]))
    assert differences(compose(["dropout=0.1"]), compose(["trainer.micro_batch=4"])) == [
        (key, 0.1, 0.0) for key, one, _ in differences(compose(["dropout=0.1"]), compose()) if one == 0.1
    ]


DROPOUT = "dropout=0.1"


def test_with_dropout_it_depends_on_how_many_sequences_a_device_takes_at_once():
    of = lambda *more: identity(compose([DROPOUT, *more]), "x")  # noqa: E731
    assert of() != of("trainer.devices=2") != of("trainer.nodes=4")
    assert of() != of("trainer.micro_batch=4")
    # 32 sequences: masks are those of a slice of the global batch, whichever device has it
    assert of() == of("trainer.micro_batch=32")
    assert of("trainer.devices=2") == of("trainer.micro_batch=16") == of("trainer.nodes=2")
    assert of("trainer.devices=2", "trainer.micro_batch=8") == of("trainer.micro_batch=8")


def test_with_the_dropout_of_a_part_too():
    config = resolved(compose(["trainer.devices=2"]))
    of = lambda rate, micro: identity(  # noqa: E731
        {**config, "attention": {**config["attention"], "dropout": rate},
         "trainer": {**config["trainer"], "micro_batch": micro}}, "x"
    )  # fmt: skip
    assert of(0.1, None) == of(0.1, 16) != of(0.1, 8)
    assert of(0.0, None) == of(0.0, 16)  # where nothing is drawn


def test_what_is_effective_is_so_for_itself():
    flat = effective(compose([DROPOUT, "trainer.devices=2"]))
    assert effective(flat) == flat and flat["trainer.micro_batch"] == 16


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


def test_the_schema_and_the_code_of_others_are_part_of_an_identity(monkeypatch):
    cfg = compose()
    first = identity(cfg, "x")
    module = importlib.import_module("ablate.config.identity")  # whose name the function hides
    monkeypatch.setattr(module, "SCHEMA", 99)
    second = identity(cfg, "x")
    monkeypatch.setattr(module, "own_code", lambda config: {"mine.norms": "0" * 64})
    third = identity(cfg, "x")
    monkeypatch.setattr(module, "own_code", lambda config: {"mine.norms": "1" * 64})
    assert len({first, second, third, identity(cfg, "x"), identity(cfg, "y")}) == 5


OPTIONS = [(group, option) for group in MODEL_SLOTS if group != "topology" for option in groups()[group]]


CAME_WITH_KEYS = {("attention", "big_bird")}  # options that set keys which came with them


def _owned(tree, path=()):
    """Each mapping in nested mappings that names a class: its path, and itself."""
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield path, tree
        for key, inner in tree.items():
            yield from _owned(inner, (*path, key))


CAME_WITH_IT = [("attention", "big_bird")]  # options that are no older than a key, and have another value of it


def test_keys_that_a_class_has_got_later_leave_the_identity_of_recorded_runs_as_it_was():
    """At the value that gives what the class did before, with the key or without it; at any other they count."""
    seen = set()
    for group, option in set(OPTIONS) - CAME_WITH_KEYS:
        config = {group: options.content(group, groups()[group][option])}
        before = copy.deepcopy(config)
        for path, owner in _owned(before):
            for key, value in sources.literals(owner["_target_"], "added_keys").items():
                if key in owner and (group, option) not in CAME_WITH_IT:
                    assert owner.pop(key) == value, f"{group}={option}: {key} is another than before by default"
                    other = copy.deepcopy(config)
                    node = other
                    for part in path:
                        node = node[part]
                    node[key] = "another"
                    assert identity(other, "x") != identity(config, "x")
                    seen.add((owner["_target_"], key))
        assert identity(before, "x") == identity(config, "x")
    assert ("ablate.model.norm.LayerNorm", "gain") in seen


def test_every_key_that_came_later_is_an_argument_whose_default_is_that_value():
    """So that a config on disk, which lacks the key, builds what it built."""
    for target in {owner["_target_"] for group, option in OPTIONS
                   for _, owner in _owned(options.content(group, groups()[group][option]))}:  # fmt: skip
        made = importlib.import_module(target.rpartition(".")[0]).__dict__[target.rpartition(".")[2]]
        for key, value in sources.literals(target, "added_keys").items():
            given = [inspect.signature(one.__init__).parameters.get(key) for one in inspect.getmro(made)]
            defaults = {one.default for one in given if one is not None}
            assert defaults == {value}, f"{target}: {key}"


COMMITTED = sorted((Path(__file__).parents[2] / "reports").glob("*/records.jsonl"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_runs_have_the_identity_that_their_overrides_have_today(path):
    """So that a sweep goes on where it was, whatever keys there are now."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record.get("identity_schema") == SCHEMA:
            rows.setdefault(record["row"], record)
    for row, record in rows.items():
        asked = [one for one in record["overrides"] if not one.startswith(("trainer.threads=", "trainer.compile="))]
        settled = [f"trainer.{key}={record['settings']['trainer'][key]}" for key in ("threads", "compile")]
        found = identity(compose([*asked, *settled]), record["data"]["sha256"])
        assert found == record["identity"], row
