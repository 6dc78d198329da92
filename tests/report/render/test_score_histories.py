"""Scores over training: in curves.csv beside the curves of the same scores, and as pictures."""

import pytest

from ablate.report.analysis import curves_csv
from ablate.report.analysis.gathering import collect
from ablate.report.analysis.judge import judge
from ablate.report.build import build
from ablate.report.render.plots import drawing
from ablate.report.render.plots.score_curves import all_score_curves
from ablate.report.render.plots.selection import Selection
from tests.report.synthetic import Maker

PAST = "the run was past it, and kept no weights of that step"


def score(value, ys, evaluation, **source):
    return {
        "value": value,
        "unit": "%",
        "higher_is_better": True,
        "chance": 25.0,
        "source": {"evaluation": evaluation, "hash": "h", **source},
        "history": {"x": "step", "xs": [5, 20, 40][-len(ys) :], "ys": ys},
    }


@pytest.fixture
def maker(tmp_path):
    """Two rows of two seeds; an evaluation with an average of two tasks, and one without."""
    made = Maker(tmp_path)
    rows = {made.baseline: [], "ALiBi": ["position=alibi"]}
    for label, overrides in rows.items():
        made.add(label, "Position", overrides)
    made.write_sweep()
    for label, overrides in rows.items():
        for seed in range(2):
            late = label == "ALiBi" and seed == 1
            scores = {
                "average": score(40.0 + seed, [30.0, 40.0 + seed], "tasks", mean_of=["one", "two"]),
                "one": score(41.0, [31.0, 41.0], "tasks"),
                "two": score(39.0, [29.0, 39.0], "tasks"),
                "alone": score(5.0, [1.0, 5.0] if late else [1.0, 3.0 + seed, 5.0], "other"),
            }
            scores["alone"]["curve"] = {"x": "position", "xs": [1, 2], "ys": [4.0, 6.0]}
            missed = {"scores_missed": {"other at step 5": PAST}} if late else {}
            downstream = {name: one["value"] for name, one in scores.items()}
            made.run(label, seed, overrides, downstream=downstream, scores=scores, **missed)
    return made


def test_histories_are_in_the_table_of_curves_beside_the_curves_of_their_scores(maker):
    results = collect(maker.name, maker.runs, maker.sweeps)
    mine = {kind: points for (row, seed, kind), points in results.curves.items() if (row, seed) == (maker.baseline, 1)}
    assert mine["alone"] == [(1, 4.0), (2, 6.0)]
    assert mine[curves_csv.kind_of_history("alone")] == [(5, 1.0), (20, 4.0), (40, 5.0)]
    assert mine["average by step"] == [(20, 30.0), (40, 41.0)]
    report = build(maker.name, maker.runs, maker.reports, maker.sweeps).path.parent
    again = curves_csv.read(report / "curves.csv")
    assert again[maker.baseline, 1, "alone by step"] == [(5, 1.0), (20, 4.0), (40, 5.0)]
    text = (report / "report.md").read_text()
    assert f"No score of other at step 5 in 1 run: {PAST}" in text
    assert "history_average.png" in text and (report / "history_average.png").exists()


def test_of_tasks_with_an_average_the_average_alone_is_drawn(maker):
    results = collect(maker.name, maker.runs, maker.sweeps)
    with drawing.style():
        verdicts = judge(results)
        plots = all_score_curves(results, verdicts, Selection.of(verdicts))
    assert [plot.file for plot in plots] == ["curve_alone.png", "history_alone.png", "history_average.png"]
    history = plots[1]
    assert history.caption == "alone by step, of each row and of the baseline (black)"
    (axes,) = history.figure.axes
    assert axes.get_xlabel() == "step" and axes.get_ylabel() == "%"
    steps = {tuple(line.get_xdata()) for line in axes.lines}
    assert (5, 20, 40) in steps and (20, 40) in steps  # of a row, the steps that all of its seeds have
    assert "dotted: chance" in history.figure.get_suptitle().replace("\n", " ")
