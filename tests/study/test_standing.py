"""Which rows of a sweep stand in which of its contexts, as far as composing tells."""

import json

import pytest

from ablate.errors import UserError
from ablate.study import runs, standing
from tests.study.test_contexts import read

TEXT = """
question: Does it carry over?
base: [shape=nano, trainer.steps=100]
baseline: Base
rows:
  Base: []
  Rms: [norm=rmsnorm]
  Experts: [feedforward=mixture_of_experts]
  Fewer experts: {overrides: [feedforward=mixture_of_experts, feedforward.experts.n_experts=8], against: Experts}
contexts:
  even: []
  odd: [shape.d_ff=191]
"""


def test_a_row_that_cannot_be_composed_is_left_out_with_those_compared_with_it():
    even, odd = standing.tables(read(TEXT))
    assert [*even.rows] == ["Base", "Rms", "Experts", "Fewer experts"] and not even.refused
    assert [*odd.rows] == ["Base", "Rms"] and not odd.against
    assert "1/2 of shape.d_ff = 191 is 95.5" in odd.refused["Experts"]
    assert standing.lines(odd)[0].startswith("try/odd: left out: 'Experts': feedforward.experts.d_ff")
    assert {row for run in runs.planned(odd) for row in [run.row]} == {"Base", "Rms"}


def test_a_control_that_is_kept_out_takes_its_rows_with_it(tmp_path):
    even = read(TEXT).in_context("even")
    left = standing.keep_out(even, {"Experts": "no"}, tmp_path)
    assert left.refused == {"Experts": "no", "Fewer experts": "it is compared with 'Experts', which is left out"}
    assert standing.standing(even, tmp_path) == left
    content = json.loads((tmp_path / "try" / "even" / standing.FILE).read_text())
    assert [*content] == ["Experts"]
    assert not standing.standing(even, tmp_path, ["shape.d_ff=384"]).refused  # what was refused is another row
    assert not standing.keep_out(even, {}, tmp_path).refused and not standing.standing(even, tmp_path).refused


def test_a_row_that_stands_nowhere_is_a_mistake():
    sweep = read(TEXT.replace("[norm=rmsnorm]", "[norm=rmsnrm]"))
    tables = standing.tables(sweep)
    assert tables == sweep.tables
    with pytest.raises(UserError, match="unknown option; did you mean 'rmsnorm'"):
        runs.planned(tables[0]), standing.written(runs.overrides(tables[0], "Rms", 0))


def test_without_contexts_nothing_is_left_out(tmp_path):
    sweep = read(TEXT.partition("contexts:")[0] + "notes: none")
    assert standing.tables(sweep, ["shape.d_ff=191"]) == [sweep] == [standing.standing(sweep, tmp_path)]


def test_only_may_name_a_row_that_is_left_out_somewhere():
    tables = standing.tables(read(TEXT))
    assert [[part.name for part in table] for table in runs.with_rungs(tables, "Experts")] == [["try/even"]]
    with pytest.raises(UserError, match="no row 'Expert'"):
        runs.with_rungs(tables, "Expert")


def test_a_row_that_is_the_baseline_of_a_context_has_no_runs_there():
    text = TEXT.replace("odd: [shape.d_ff=191]", "llama: [norm=rmsnorm, position=rope]")
    even, llama = standing.tables(read(text))
    assert not even.refused and llama.refused == {"Rms": standing.SAME}
