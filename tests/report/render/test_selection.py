"""Plots of a sweep with more rows than can be read: which are shown, and what is said of the others."""

import dataclasses

import numpy as np
import pytest

from ablate.errors import UserError
from ablate.report import build
from ablate.report.analysis import records_file
from ablate.report.analysis.gathering import collect
from ablate.report.analysis.judge import judge
from ablate.report.render.plots import drawing
from ablate.report.render.plots.costs import UNNAMED, costs
from ablate.report.render.plots.curves import curves
from ablate.report.render.plots.forest import forest
from ablate.report.render.plots.heatmap import heatmap
from ablate.report.render.plots.selection import MOST_CURVES, MOST_ROWS, Selection, left_out
from tests.report.synthetic import large_sweep, verdicts

ROWS = 90


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return large_sweep(tmp_path_factory.mktemp("large"), rows=ROWS)


@pytest.fixture(scope="module")
def results(sweep):
    return collect(sweep.name, sweep.runs, sweep.sweeps)


@pytest.fixture(scope="module")
def judged(results):
    return judge(results)


@pytest.fixture(autouse=True)
def _style():
    with drawing.style():
        yield


def many(rows, found=()):
    """Rows named after their difference, 0, 1, -2, 3, ...; those `found` have a verdict."""
    made = verdicts({str(number): number * (-1) ** (number + 1) / 100 for number in range(rows)})
    for place, row in enumerate(made.rows):
        if row.label in found:
            made.rows[place] = dataclasses.replace(row, verdict="better")
    return made


def labels(rows):
    return {row.label for row in rows}


def test_all_rows_are_shown_up_to_the_most_that_can_be_read():
    made = many(MOST_ROWS)
    assert Selection.of(made).most_important(made.rows) == made.rows
    assert Selection.of(made).most_important(made.rows, MOST_CURVES) == made.rows
    assert left_out(made.rows, made.rows) == ""


def test_rows_that_are_named_come_first_then_those_with_a_verdict_then_both_ends():
    made = many(200, found=("3", "8", "11"))
    chosen = Selection.of(made, named=("5", "1")).most_important(made.rows, 9)
    assert labels(chosen) == {"5", "1", "3", "8", "11", "198", "199", "196", "197"}
    assert [row.label for row in chosen] == sorted(labels(chosen), key=int)  # in the order in which they were given


def test_of_too_many_verdicts_both_ends_are_shown_and_the_rest_is_counted():
    made = many(200, found=[str(number) for number in range(100)])
    chosen = Selection.of(made).most_important(made.rows)
    assert labels(chosen) == {str(number) for number in range(40, 100)}
    assert left_out(made.rows, chosen) == (
        "60 of 200 rows are shown: verdicts first, then the largest differences. "
        "140 are left out, 40 of them with a verdict: see the tables."
    )


def names(axes):
    return {text.get_text() for text in axes.texts} | {text.get_text() for text in axes.get_yticklabels()}


@pytest.mark.parametrize("draw", [forest, heatmap])
def test_a_row_a_line_for_as_many_as_can_be_read(judged, draw):
    plot = draw(judged, Selection.of(judged))
    shown = [row for row in judged.rows if any(row.label in name.split(", ")[0] for name in names(plot.figure.axes[0]))]
    drawn = {name.lstrip("▼▲ ") for name in names(plot.figure.axes[0])} & labels(judged.rows)
    assert len(drawn) == MOST_ROWS and len(shown) >= MOST_ROWS
    assert {row.label for row in judged.rows if row.verdict in ("better", "worse")} <= drawn
    assert plot.note.startswith("60 of 90 rows are shown: ") and "30 are left out: see the tables." in plot.note
    said = [*(text.get_text() for text in plot.figure.axes[0].texts), plot.figure.get_suptitle()]
    assert any(plot.note in text.replace("\n", " ") for text in said)


def test_a_few_curves_of_many_rows_in_six_panels(results, judged):
    for plot in curves(results, judged, Selection.of(judged)):
        assert len(plot.figure.axes) == 6
        lines = [line for axes in plot.figure.axes for line in axes.lines if line.get_linewidth() == 1.4]
        assert len(lines) == MOST_CURVES + 6 * (plot.file == "loss_curves.png")  # the baseline in each panel
        assert plot.note.startswith("36 of 90 rows are shown") and plot.note in plot.figure.get_suptitle().replace(
            "\n", " "
        )


def test_against_cost_every_row_is_drawn_and_the_important_ones_have_names(judged):
    plot = costs(judged, Selection.of(judged))
    for axes in plot.figure.axes:
        small = [line for line in axes.lines if line.get_label() == UNNAMED]
        named = [line for line in axes.lines if line.get_linestyle() == "None" and line not in small]
        assert sum(len(line.get_xdata()) for line in small) == ROWS - MOST_ROWS
        assert len(named) == MOST_ROWS + 1  # the baseline
        hollow = [line for line in named if line.get_markerfacecolor() == "none"]
        assert len(hollow) == 1  # Variant number 17; the many rows near the baseline push no verdict off the scale
    assert plot.note.startswith("60 of 90 rows are named") and "30 have no name" in plot.note


def test_the_report_says_under_each_picture_how_many_rows_it_leaves_out(sweep, monkeypatch):
    monkeypatch.setattr(drawing, "save", lambda figure, path: None)
    text = build.build(sweep.name, sweep.runs, sweep.reports, sweep.sweeps, only="Variant number 4*").path.read_text()
    assert text.count("(forest.png)\n\n60 of 90 rows are shown") == 1
    assert text.count("(heatmap.png)\n\n60 of 90 rows are shown") == 1
    assert text.count("rows are shown") == 5 and text.count("rows are named") == 1
    named = records_file.read(sweep.reports / sweep.name).sweep["shown_first"]
    assert sorted(named) == ["Variant number 4", *(f"Variant number {number}" for number in range(40, 50))]
    before = {path.name: path.read_bytes() for path in (sweep.reports / sweep.name).iterdir()}
    build.rebuild(sweep.reports / sweep.name)  # from the files alone
    assert before == {path.name: path.read_bytes() for path in (sweep.reports / sweep.name).iterdir()}
    build.build(sweep.name, sweep.runs, sweep.reports, sweep.sweeps)
    assert "shown_first" not in records_file.read(sweep.reports / sweep.name).sweep
    with pytest.raises(UserError, match="only: no row 'Variant 4' in made-up"):
        build.build(sweep.name, sweep.runs, sweep.reports, sweep.sweeps, only="Variant 4")


def test_a_row_far_below_the_scale_is_marked_there():
    made = verdicts({"far": -3.0} | {str(number): number / 100 for number in range(9)})
    flops = [dataclasses.replace(row, flops_per_step=1.0 + place) for place, row in enumerate(made.rows)]
    base = dataclasses.replace(made.baseline, verdict="baseline", final=np.full(3, 5.0))
    (axes,) = costs(dataclasses.replace(made, baseline=base, rows=flops)).figure.axes
    (mark,) = [line for line in axes.lines if line.get_marker() == "v"]
    low, high = axes.get_ylim()
    assert low < mark.get_ydata()[0] < low + 0.1 * (high - low)
    assert "far (2.00, off scale)" in names(axes)
