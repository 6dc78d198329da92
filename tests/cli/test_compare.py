"""`ablate compare`: the study that it makes of its arguments, goes on with, and never makes of a mistake."""

from __future__ import annotations

import functools

import pytest
import yaml

from ablate import cli
from ablate.study import changes, definition
from ablate.sweep import command, preflight
from tests.sweep.conftest import PROGRAM, place  # noqa: F401

BASE = "base=shape=nano trainer.steps=300"


@pytest.fixture
def compare(place, monkeypatch, capsys):  # noqa: F811
    """Calls the verb in a folder of its own, with the stand-in for training; returns exit code and output."""
    monkeypatch.setattr(command, "drive", functools.partial(command.drive, program=PROGRAM))
    monkeypatch.chdir(place.folder)

    def call(*words):
        code = cli.run(["compare", *words, "report=false", "timing=0"])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def files(place):  # noqa: F811
    return sorted(path.name for path in (place.folder / "sweeps").iterdir() if path.name != "try.yaml")


def trained(place, name):  # noqa: F811
    return sorted(str(path.parent.relative_to(place.runs / name)) for path in (place.runs / name).rglob("record.json"))


def test_a_study_is_made_run_and_gone_on_with(compare, place):  # noqa: F811
    assert compare("norm=rmsnorm", "activation=swiglu bias=none", "seeds=1", BASE)[0] == 0
    (name,) = {path.name for path in place.runs.iterdir() if not path.name.startswith(".")}
    study = definition.load(name)
    assert study.base == ("shape=nano", "trainer.steps=300") and study.seeds == definition.Seeds(1, 1)
    assert study.rows == {
        "Baseline": (),
        "norm=rmsnorm": ("norm=rmsnorm",),
        "activation=swiglu bias=none": ("activation=swiglu", "bias=none"),
    }
    assert study.question == "Which of these 2 changes are better than the baseline?"
    assert len(place.trace("start")) == 3

    code, _ = compare("activation=gelu", "seeds=2", "base=trainer.steps=300 shape=nano")  # the base in another order
    assert code == 0 and files(place) == [f"{name}.yaml"]
    assert list(definition.load(name).rows)[1:] == ["norm=rmsnorm", "activation=swiglu bias=none", "activation=gelu"]
    assert len(place.trace("start")) == 8  # 4 rows with 2 seeds, and none of them twice
    assert len(trained(place, name)) == 8
    assert compare("norm=rmsnorm", "seeds=1", BASE)[0] == 0  # nothing is forgotten, nothing trained again
    assert definition.load(name).seeds == definition.Seeds(2, 2) and len(place.trace("start")) == 8


def test_rows_are_composed_once_and_the_end_is_the_verdicts(place, monkeypatch, capsys):  # noqa: F811
    composed = []
    compose_all = preflight.compose_all
    monkeypatch.setattr(preflight, "compose_all", lambda *words: composed.append(words) or compose_all(*words))
    monkeypatch.setattr(command, "drive", functools.partial(command.drive, program=PROGRAM))
    monkeypatch.chdir(place.folder)
    assert cli.run(["compare", "norm=rmsnorm", "activation=gelu", "seeds=3", "timing=0"]) == 0
    assert len(composed) == 1
    *_, sentence, head, first, second, path = capsys.readouterr().out.splitlines()
    assert sentence.startswith("compare: Of 2 changes to Baseline, ")
    assert head.split() == ["change", "difference", "interval", "verdict"]
    assert {first.split()[0], second.split()[0]} == {"norm=rmsnorm", "activation=gelu"}
    assert path == "compare: reports/compare/report.md"


def test_another_base_is_another_study(compare, place):  # noqa: F811
    compare("norm=rmsnorm", "seeds=1")
    compare("norm=rmsnorm", "seeds=1", "base=trainer.steps=30")
    compare("norm=rmsnorm", "seeds=1", "name=mine", "logger=files")
    assert len(files(place)) == 3 and {"compare.yaml", "mine.yaml"} < set(files(place))
    assert definition.load("compare").question == "Is norm=rmsnorm better than the baseline?"
    assert len(place.trace("start")) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "takes at least one change"),
        (["rmsnorm"], "rmsnorm: a change is one or more overrides, as in norm=rmsnorm"),
        (["norm=rmsnrm"], "did you mean 'rmsnorm'?"),
        (["norm=rmsnorm norm=none"], "norm is set twice"),
        (["norm=rmsnorm", "seeds=0"], "seeds=0: must be at least 1"),
        (["norm=rmsnorm", "seeds=1000000"], "must be at most 1,000"),
        (["norm=rmsnorm", "base=norm"], "'norm' is not an override"),
        (["norm=rmsnorm", "base='shape=nano"], "quote values with special characters"),
        (["shape=micro"], "put it in base"),
        (["paths.runs=x"], "takes at least one change"),
        (["norm=rmsnorm", "name=axes"], "a sweep of that name comes with ablate"),
        (["norm=rmsnorm", "name=try"], "try.yaml was not written by ablate compare; choose another name="),
        (["norm=rmsnorm", "name=a/b"], "a sweep's name has"),
        (["norm=rmsnorm", "only=Baseline"], "there is no key 'only'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(compare, place, words, told):  # noqa: F811
    code, said = compare(*words)
    assert code == 2 and told in said and len(said.splitlines()) == 1
    assert files(place) == [] and not place.runs.exists()


def test_a_named_study_keeps_its_base(compare, place):  # noqa: F811
    compare("norm=rmsnorm", "seeds=1", "name=mine", BASE)
    before = (place.folder / "sweeps" / "mine.yaml").read_text()
    code, said = compare("norm=none", "seeds=1", "name=mine")
    assert code == 2 and "mine.yaml compares against base='shape=nano trainer.steps=300'" in said
    assert (place.folder / "sweeps" / "mine.yaml").read_text() == before


def test_what_a_person_added_stays(compare, place):  # noqa: F811
    compare("norm=rmsnorm", "seeds=1", "name=mine")
    path = place.folder / "sweeps" / "mine.yaml"
    path.write_text(path.read_text() + "notes: Mine.\n")
    compare("norm=none", "seeds=1", "name=mine")
    assert definition.load("mine").notes == "Mine." and "norm=none" in definition.load("mine").rows


def test_names_are_short_and_differ():
    long = [f"model.some_key={number}" for number in range(60)]
    names = {changes.name_of(long), changes.name_of(long[:-1]), changes.name_of([]), changes.name_of(["shape=nano"])}
    assert len(names) == 4 and {"compare", "compare-shape=nano"} < names
    assert all(len(name) <= 40 for name in names)
    assert changes.name_of(long) == changes.name_of(long[::-1])


def test_quotes_are_left_to_the_override_grammar():
    words = ["a='x y'", 'b="c [ d"', "c=[1, [2, 3]]", "d={e: 1}"]
    assert changes.split("  ".join(words)) == words
    assert changes.split("a='x b=y") == ["a='x b=y"]  # which the grammar refuses
    assert yaml.safe_load(changes.MARK) is None
