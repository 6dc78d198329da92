"""The sweep file to begin with: it loads and plans as it is, and so does each other way that it shows."""

from __future__ import annotations

import re

import pytest
import yaml

from ablate import cli
from ablate.cli import init
from ablate.study import definition
from ablate.study.definition import parse
from ablate.study.inheritance import KEYS

TEXT = init.TEMPLATE.read_text()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*keys):
    """What the comments show behind the first of `keys`, as a mapping of all of them."""
    lines = TEXT.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"# {keys[0]}:"))
    block = [line.removeprefix("# ") for line in lines[start:]]
    end = next((number for number, line in enumerate(lines[start:]) if not line.startswith("# ")), len(block))
    found = yaml.safe_load("\n".join(block[:end]))
    assert list(found) == list(keys)
    return found


def test_the_copied_file_plans(here, capsys):
    assert cli.run(["init"]) == 0
    assert capsys.readouterr().out.startswith("sweeps/my_sweep.yaml: edit it, then  ablate plan my_sweep")
    assert [path.name for path in here.rglob("*.yaml")] == ["my_sweep.yaml"]
    assert cli.run(["plan", "my_sweep"]) == 0
    assert "4 rows, 20 runs" in capsys.readouterr().out
    assert cli.run(["init", "gates"]) == 0 and list(definition.load("gates").rows) == list(
        definition.load("my_sweep").rows
    )
    assert cli.run(["init", "gates", "paths.sweeps=others"]) == 0 and (here / "others" / "gates.yaml").is_file()


def test_every_key_is_explained():
    lines = TEXT.splitlines()
    for key in KEYS:
        assert any(re.match(rf"(# )?{key}:", line) for line in lines), key
    known = {line.removeprefix("# ").partition(":")[0] for line in lines if re.match(r"(# )?[a-z]+:( |$)", line)}
    assert known <= set(KEYS), known - set(KEYS)
    for line, before in zip(lines[1:], lines, strict=False):
        if line.partition(":")[0] in KEYS:
            assert before.startswith("# "), line


def test_what_the_comments_show_is_right(here):
    """Each other way of listing rows, and each key that is commented out, makes a sweep as well."""
    content = yaml.safe_load(TEXT)
    without_rows = {key: value for key, value in content.items() if key != "rows"}
    without_baseline = {key: value for key, value in without_rows.items() if key != "baseline"}
    path = here / "sweeps" / "try.yaml"

    def sweep(*parts):
        return parse(
            "try", yaml.safe_dump({key: value for part in parts for key, value in part.items()}, sort_keys=False), path
        )

    assert set(sweep(without_rows, shown("sections")).sections.values()) == {"baseline", "norms", "activations"}
    assert sweep(without_baseline, shown("grid")).baseline == "norm=layernorm activation=relu"
    assert sweep(content, shown("early_fraction")).early_fraction == 0.25
    assert sweep(content, shown("reference")).reference == "narang2021"
    assert sweep(content, shown("protocol")).rows == sweep(content).rows
    over = sweep(without_baseline, shown("extends", "add", "drop"))
    assert "GEGLU" in over.rows and "RoPE" not in over.rows and over.baseline == "Vanilla Transformer"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["../x"], "'../x': a sweep's name has"),
        ([".x"], "'.x': a sweep's name has"),
        (["a b"], "'a b': a sweep's name has"),
        (["mine.yaml"], "mine.yaml: give the sweep's name without the ending, as in mine"),
        (["axes"], "axes: a sweep of that name comes with ablate; choose another, and say extends: axes in it"),
        (["one", "two"], "ablate init takes the name of one sweep, and was given one, two"),
        (["--force"], "--force: unknown flag"),
        (["norm=rmsnorm"], "norm=rmsnorm: only paths.runs"),
    ],
    ids=" ".join,
)
def test_a_wrong_name_is_refused(words, told, here, capsys):
    assert cli.run(["init", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line and not list(here.iterdir())


def test_a_file_that_is_there_stays(here, capsys):
    (here / "sweeps").mkdir()
    (here / "sweeps" / "mine.yaml").write_text("mine")
    assert cli.run(["init", "mine"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "sweeps/mine.yaml is there already; move it away, or give another name" in line
    assert (here / "sweeps" / "mine.yaml").read_text() == "mine"
