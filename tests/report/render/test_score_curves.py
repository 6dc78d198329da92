"""Pictures of curves: scores by something else, and gradient norms."""

import math

import pytest
from matplotlib.collections import FillBetweenPolyCollection

from ablate.report.analysis.gathering import collect
from ablate.report.analysis.judge import judge
from ablate.report.build import build
from ablate.report.render.plots import drawing
from ablate.report.render.plots.drawing import INK
from ablate.report.render.plots.gradient_norm import gradient_norm
from ablate.report.render.plots.score_curves import all_score_curves
from ablate.report.render.plots.selection import Selection
from tests.report.synthetic import Maker

ENDED = "a sequence of 80 tokens is longer than position.max_length=64"


def score(value, xs, ys, **more):
    curve = {"x": "position", "xs": xs, "ys": ys}
    return {"value": value, "unit": "nats a token", "higher_is_better": False, "curve": curve, **more}


@pytest.fixture
def maker(tmp_path):
    """Three rows of three seeds; the curve of one ends half-way, and another run of it diverged."""
    made = Maker(tmp_path)
    rows = {made.baseline: [], "ALiBi": ["position=alibi"], "Learned": ["position=learned"]}
    for label, overrides in rows.items():
        made.add(label, "Position", overrides)
    made.write_sweep()
    for label, overrides in rows.items():
        for seed in range(3):
            long = score(5.0, [32, 64, 96, 128], [6 + seed, 5 + seed, 4 + seed, 3 + seed])
            short = score(5.0, [32, 64], [6 + seed, 5 + seed], source={"ended": ENDED})
            chosen = short if label == "Learned" else long
            guess = score(50.0, [8, 16], [40 + seed, 60 + seed], chance=12.5)
            at_one = score(50.0, [8], [40 + seed])
            scores = {
                "loss_at_training_length": chosen,
                "single": at_one,
                "accuracy": guess,
                "plain": {**score(1.0, [], []), "curve": None},
            }
            made.run(label, seed, overrides, downstream={name: one["value"] for name, one in scores.items()}, scores={
                name: {key: value for key, value in one.items() if value is not None} for name, one in scores.items()
            })  # fmt: skip
    made.run("Learned", 2, ["position=learned"], status="diverged")
    return made


@pytest.fixture
def drawn(maker):
    results = collect(maker.name, maker.runs, maker.sweeps)
    with drawing.style():
        verdicts = judge(results)
        yield {
            plot.file: plot.figure
            for plot in (
                *all_score_curves(results, verdicts, Selection.of(verdicts)),
                gradient_norm(results, verdicts, Selection.of(verdicts)),
            )
        }


def lines_of(axes):
    """The mean of each row by its colour."""
    return {line.get_color(): line for line in axes.lines if len(line.get_xdata()) > 1}


def test_each_score_with_a_curve_has_a_picture(drawn):
    assert list(drawn) == [
        "curve_accuracy.png",
        "curve_loss_at_training_length.png",
        "curve_single.png",
        "gradient_norm.png",
    ]


def test_means_over_seeds_and_where_a_curve_ends(drawn):
    (axes,) = drawn["curve_loss_at_training_length.png"].axes
    found = lines_of(axes)
    assert list(found[INK].get_xdata()) == [32, 64, 96, 128] and list(found[INK].get_ydata()) == [7, 6, 5, 4]
    assert sum(isinstance(one, FillBetweenPolyCollection) for one in axes.collections) == 3  # a band for each row
    assert sorted(len(line.get_xdata()) for line in found.values()) == [2, 4, 4]
    squares = [line for line in axes.lines if line.get_marker() == "s"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in squares] == [(64, 5.5)]  # of two seeds
    title = drawn["curve_loss_at_training_length.png"].get_suptitle().replace("\n", " ")
    assert f"a square: where the curve of a row ends, Learned at 64 ({ENDED})" in title
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("position", "nats a token")
    assert {text.get_text() for text in axes.texts} == {"Vanilla Transformer", "ALiBi", "Learned"}


def test_a_curve_of_one_point_is_a_dot(drawn):
    (axes,) = drawn["curve_single.png"].axes
    assert sorted(line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o") == [40.5, 41.0, 41.0]
    (other,) = drawn["curve_accuracy.png"].axes
    assert not [line for line in other.lines if line.get_marker() == "o"]


def test_chance_is_dotted(drawn):
    (axes,) = drawn["curve_accuracy.png"].axes
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [set(line.get_ydata()) for line in dotted] == [{12.5}]
    assert "dotted: chance" in drawn["curve_accuracy.png"].get_suptitle().replace("\n", " ")
    (other,) = drawn["curve_loss_at_training_length.png"].axes
    assert not [line for line in other.lines if line.get_linestyle() == ":"]


def test_gradient_norms_are_on_logarithmic_axes(drawn):
    (axes,) = drawn["gradient_norm.png"].axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Vanilla Transformer", "ALiBi", "Learned"]
    axes.set_xlim(1, 800)
    axes.set_ylim(0.3, 1.6)  # less than a decade
    drawn["gradient_norm.png"].canvas.draw()
    for axis in (axes.xaxis, axes.yaxis):
        ticks = [text.get_text() for text in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))]
        assert not [text for text in ticks if "$" in text] and len([text for text in ticks if text]) >= 2
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == 1 and math.isfinite(crosses[0].get_ydata()[0])
    assert "dashed, to a cross: a run that diverged" in drawn["gradient_norm.png"].get_suptitle().replace("\n", " ")


def test_the_report_shows_them(maker):
    report = build(maker.name, maker.runs, maker.reports, maker.sweeps).path.read_text()
    for file in ("curve_accuracy.png", "curve_loss_at_training_length.png", "gradient_norm.png"):
        assert f"({file})" in report and (maker.reports / maker.name / file).exists()
