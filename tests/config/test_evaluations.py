"""Evaluations are a list; those that are not part of training are no part of a run's identity."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from ablate.config import compose, differences, evaluations, identity, options, resolved
from ablate.config.composing import by_hydra, compose_groups
from ablate.errors import UserError
from ablate.study import definition

ALL = f"({', '.join(sorted(options.groups()['evaluation']))})"
BOTH = "evaluation=[heldout,by_position]"
SWEEP = """question: Which norm?
base: ["evaluation=[heldout,by_position]", evaluation.by_position.bins=4]
baseline: baseline
rows:
  baseline: []
  RMS: [norm=rmsnorm]
"""


@pytest.mark.parametrize("choice", ["heldout", ["heldout"], ["heldout", "by_position"], ["by_position", "heldout"]])
def test_a_list_is_composed_as_hydra_composes_it(choice):
    found = compose_groups({"evaluation": choice})
    assert found == by_hydra({"evaluation": choice})
    assert list(found["evaluation"]) == options.listed(choice)


def test_one_option_is_a_list_of_one():
    assert resolved(compose(["evaluation=heldout"])) | {"row": ""} == resolved(compose()) | {"row": ""}
    assert compose().evaluation.heldout.tokens == 65536


def test_each_option_has_its_keys_below_its_name():
    cfg = compose([BOTH, "evaluation.heldout.tokens=4096", "evaluation.by_position.bins=2"])
    assert cfg.evaluation.heldout.tokens == 4096
    assert cfg.evaluation.by_position.tokens == 65536 and cfg.evaluation.by_position.bins == 2


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "evaluation=[]",
            "evaluation takes one or more options and was given none " + ALL,
        ),
        (
            "evaluation=null",
            "evaluation takes one or more options and was given null " + ALL,
        ),
        ("evaluation=[heldout,heldout]", "heldout is chosen 2 times"),
        ("evaluation=[heldout,by_postion]", "evaluation=by_postion: unknown option; did you mean 'by_position'?"),
        ("evaluation=by_position", "evaluation=[by_position]: none of them gives the loss of the run; add heldout"),
        ("norm=[layernorm,rmsnorm]", "norm takes one option and was given a list"),
        ("evaluation.by_position.bins=2", "it is a setting of evaluation=by_position"),
        ("evaluation.tokens=4096", "evaluation.tokens is now called evaluation.heldout.tokens"),
        ("evaluation.seed=1", "evaluation.seed is now called evaluation.heldout.seed"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_a_line(override, line):
    with pytest.raises(UserError) as refused:
        compose([override])
    assert line in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_an_option_file_has_one_key_of_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "mine" / "conf" / "evaluation").mkdir(parents=True)
    (tmp_path / "mine" / "conf" / "evaluation" / "flat.yaml").write_text("_target_: mine.Flat\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(options.PLUGINS, "mine")
    with pytest.raises(UserError, match=r"flat\.yaml: must have the one key flat, with its settings below"):
        compose(["evaluation=[heldout,flat]"])
    options._plugin_folders.cache_clear()


@pytest.mark.parametrize(
    "overrides", [[BOTH], [BOTH, "evaluation.by_position.bins=2"], ["evaluation=[by_position,heldout]"]]
)
def test_what_is_measured_after_training_is_no_part_of_the_run(overrides):
    more, plain = compose(overrides), compose()
    assert identity(more, "x") == identity(plain, "x")
    assert differences(more, plain) == []
    assert more.row == "baseline"


@pytest.mark.parametrize("override", ["evaluation.heldout.tokens=4096", "evaluation.heldout.seed=1"])
def test_what_is_measured_in_training_is(override):
    assert identity(compose([override]), "x") != identity(compose(), "x")
    assert identity(compose([BOTH, override]), "x") == identity(compose([override]), "x")
    assert compose([override]).row == override


def test_a_config_on_disk_says_by_itself_what_is_part_of_training(tmp_path, monkeypatch):
    OmegaConf.save(OmegaConf.create(resolved(compose([BOTH]))), tmp_path / "config.yaml")
    plain = OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml"))
    monkeypatch.setattr(options, "_groups", lambda places: {})  # no option file is there any more
    monkeypatch.setattr(options, "_plugin_folders", lambda name: ())
    assert identity(plain, "x") == identity({**plain, "evaluation": {"heldout": plain["evaluation"]["heldout"]}}, "x")


def test_each_of_the_others_has_a_hash_of_its_own():
    found = evaluations.hashes(resolved(compose([BOTH])), "x")
    assert list(found) == ["by_position"] and len(found["by_position"]) == 16
    for overrides, text in (([BOTH, "evaluation.by_position.bins=2"], "x"), ([BOTH], "y")):
        assert evaluations.hashes(resolved(compose(overrides)), text) != found
    assert evaluations.hashes(resolved(compose([BOTH, "evaluation.heldout.tokens=64", "norm=rmsnorm"])), "x") == found


def test_a_sweep_may_choose_several(tmp_path):
    (tmp_path / "several.yaml").write_text(SWEEP)
    sweep = definition.load("several", tmp_path)
    assert compose([*sweep.base, *sweep.rows["RMS"]]).evaluation.by_position.bins == 4


def test_two_that_are_part_of_training_are_refused():
    part = {"part_of_training": True}
    assert evaluations.problems({"heldout": part, "other": {}}) == []
    (line,) = evaluations.problems({"heldout": part, "other": part})
    assert line == "evaluation=[heldout,other]: heldout and other are both part of training; choose one of them"
