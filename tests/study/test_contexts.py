"""Contexts and rungs of a sweep file: what is read, what is refused, and the runs that they make."""

from pathlib import Path

import pytest

from ablate.errors import UserError
from ablate.study import definition, runs
from ablate.study.definition import parse

TEXT = """
question: Does it carry over?
base: [shape=nano, trainer.steps=100]
baseline: Base
rows:
  Base: []
  Rms: [norm=rmsnorm]
seeds: {baseline: 2, rows: 1}
"""
CONTEXTS = """
contexts:
  spans: []
  causal: [topology=causal_decoder, trainer.steps=40]
"""
GRID = """
contexts:
  grid:
    size: {small: [shape.n_layers=2], large: [shape.n_layers=4]}
    recipe: {paper: [], adam: [optimizer=adam]}
"""


def read(text):
    return parse("try", text, Path("sweeps/try.yaml"))


def names(sweep):
    return [part.name for part in sweep.parts]


def test_a_sweep_without_contexts_is_one_table():
    sweep = read(TEXT)
    assert sweep.parts == sweep.tables == [sweep]


def test_each_context_is_a_sweep_of_its_own_over_the_same_rows():
    spans, causal = read(TEXT + CONTEXTS).tables
    assert (spans.name, causal.name) == ("try/spans", "try/causal")
    assert causal.rows == spans.rows == read(TEXT).rows
    run = runs.planned(causal, ["trainer.steps=7"])[1]
    assert run.overrides == (
        "shape=nano", "topology=causal_decoder", "trainer.steps=7", "norm=rmsnorm",
        "sweep=try/causal", "row='Rms'", "seed.base=0",
    )  # fmt: skip
    assert run.folder("runs") == Path("runs/try/causal") / run.folder("runs").parts[-2] / "seed-0"


def test_a_grid_has_every_combination():
    sweep = read(TEXT + GRID)
    assert [*sweep.contexts] == ["small-paper", "small-adam", "large-paper", "large-adam"]
    assert sweep.contexts["large-adam"] == ("shape.n_layers=4", "optimizer=adam")


def test_the_row_wins_over_the_context():
    text = TEXT.replace("[norm=rmsnorm]", "[norm=rmsnorm, topology=prefix_decoder]")
    assert "topology=prefix_decoder" in runs.planned(read(text + CONTEXTS).in_context("causal"))[1].overrides


def test_rungs_are_the_baseline_alone_at_other_numbers_of_steps():
    sweep = read(TEXT + "rungs: [2, 0.5, 0.25]")
    assert names(sweep) == ["try", "try/x0.25", "try/x0.5", "try/x2"]
    quarter, _, double = sweep.at_rungs()
    planned = runs.planned(double)
    assert [(run.row, run.seed) for run in planned] == [("Base", 0), ("Base", 1)]
    assert "trainer.steps=200" in planned[0].overrides and "trainer.steps=100" not in planned[0].overrides
    assert "trainer.steps=2" in runs.planned(quarter, ["trainer.steps=7"])[0].overrides  # of those asked for
    assert quarter.parts == [quarter]


def test_each_context_has_rungs_of_its_own():
    sweep = read(TEXT + CONTEXTS + "rungs: true")
    assert names(sweep) == [
        "try/spans", "try/spans-x0.5", "try/spans-x2", "try/causal", "try/causal-x0.5", "try/causal-x2",
    ]  # fmt: skip
    assert "trainer.steps=20" in runs.planned(sweep.parts[4])[0].overrides


def test_parts_are_loaded_by_name(tmp_path):
    (tmp_path / "try.yaml").write_text(TEXT + CONTEXTS + "rungs: true")
    for part in definition.load("try", tmp_path).parts:
        assert definition.load(part.name, tmp_path) == part


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("contexts: []", "contexts must hold contexts"),
        ("contexts: {}", "contexts must hold contexts"),
        ("contexts: {a/b: []}", "'a/b' cannot name a context"),
        ("contexts: {.a: []}", "'.a' cannot name a context"),
        ("contexts: {a: norm=rmsnorm}", "contexts: a must be a list of overrides"),
        ("contexts: {a: [seed=1]}", "contexts: a: seed.base is given by the sweep itself"),
        ("contexts: {a: [paths.runs=x]}", "contexts: a: paths.runs says where a machine keeps things"),
        ("contexts: {a: [], A: []}", "two are called 'a' but for capital letters"),
        ("contexts: {grid: {size: []}}", "contexts: grid: size must hold levels"),
        (
            "contexts: {grid: {one: {a: [norm=rmsnorm]}, two: {b: [norm=none]}}}",
            "contexts: a-b: norm is set by two axes",
        ),
        ("contexts: {grid: {one: {a: [], a-b: []}, two: {b-c: [], c: []}}}", "two points of the grid are called a-b-c"),
        ("rungs: [1]", "rungs must be factors"),
        ("rungs: []", "rungs must be factors"),
        ("rungs: [0]", "rungs must be factors"),
        ("rungs: [.inf]", "rungs must be factors"),
        ("rungs: [1e9]", "rungs must be factors"),
        ("rungs: 2", "rungs must be factors"),
        ("rungs: [true]", "rungs must be factors"),
        ("rungs: [2, 2.0]", "a factor is given twice"),
        ("contexts: {a: [], a-x2: []}\nrungs: [2]", "'a-x2' is what the rung 2 of 'a' is called"),
        ("contxts: {a: []}", "unknown key 'contxts'; did you mean 'contexts'"),
    ],
)
def test_what_is_refused(given, said):
    with pytest.raises(UserError) as caught:
        read(f"{TEXT}\n{given}")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_context_that_is_not_there_names_the_nearest(tmp_path):
    (tmp_path / "try.yaml").write_text(TEXT + CONTEXTS)
    with pytest.raises(UserError, match="no context 'casual' in try; did you mean 'causal'"):
        definition.load("try/casual", tmp_path)
    (tmp_path / "plain.yaml").write_text(TEXT)
    with pytest.raises(UserError, match=r"no context 'causal' in plain \(it has none\)"):
        definition.load("plain/causal", tmp_path)
    with pytest.raises(UserError, match="no sweep 'tri'"):
        definition.load("tri/causal", tmp_path)


def test_as_many_runs_as_no_disk_has_folders_for_are_refused():
    axes = [", ".join(f"{axis}{level}: []" for level in range(10)) for axis in "ab"]
    contexts = f"contexts: {{grid: {{a: {{{axes[0]}}}, b: {{{axes[1]}}}}}}}"
    with pytest.raises(UserError, match="in 100 contexts are 200,000 runs"):
        read(TEXT.replace("baseline: 2, rows: 1", "baseline: 1000, rows: 1000") + contexts)
