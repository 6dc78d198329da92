"""What each plot of the troubled sweep contains: lines, patches and labels, counted against its verdicts."""

import dataclasses
import math
import re

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection as FillBetween

from ablate.report.analysis import reference
from ablate.report.analysis.agreement import agreements
from ablate.report.analysis.agreement_over_training import OWN
from ablate.report.analysis.agreement_over_training import agreement_over_training as over_training
from ablate.report.analysis.curves import Curves
from ablate.report.analysis.gathering import collect
from ablate.report.analysis.judge import judge
from ablate.report.render.plots import drawing
from ablate.report.render.plots.agreement_over_training import agreement_over_training
from ablate.report.render.plots.costs import costs, losses_of
from ablate.report.render.plots.curves import FIRST_PART, curves
from ablate.report.render.plots.forest import forest
from ablate.report.render.plots.heatmap import heatmap
from ablate.report.render.plots.published import published
from tests.report.synthetic import troubled_sweep
from tests.report.synthetic import verdicts as named_verdicts

TABLE = reference.load("narang2021")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    maker = troubled_sweep(tmp_path_factory.mktemp("troubled"))
    return collect(maker.name, maker.runs, maker.sweeps)


@pytest.fixture(scope="module")
def verdicts(results):
    return judge(results)


@pytest.fixture(autouse=True)
def _style():
    with drawing.style():
        yield


def texts(artist):
    return [text.get_text() for text in artist.texts]


def legend(artist):
    return [text.get_text() for text in artist.get_legend().get_texts()]


def test_forest(verdicts):
    figure = forest(verdicts).figure
    (axes,) = figure.axes
    shown = [row for row in verdicts.rows if math.isfinite(row.comparison.delta)]
    tested = [row for row in shown if math.isfinite(row.comparison.low)]
    assert (len(shown), len(tested)) == (16, 12)
    assert len(axes.lines) == 1 + 2 * len(shown) + len(tested)  # zero; seeds and marker of each row; intervals
    assert len(axes.patches) == 1  # the noise floor
    labels = texts(axes)
    assert len(labels) == 2 * len(shown) + len({row.section for row in shown})
    assert {row.label for row in shown} | {row.section for row in shown} <= set(labels)
    assert legend(axes) == [
        *("better", "no difference detected", "worse", "no verdict", "diverged"),
        *("one seed", "continues beyond the scale", "noise floor: ± sd of the baseline, 5 seeds"),
    ]
    intervals = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 1.6]
    low, high = axes.get_xlim()
    assert sorted(map(tuple, intervals)) == sorted(
        (max(row.comparison.low, low), min(row.comparison.high, high)) for row in tested
    )


def test_curves(results, verdicts):
    plots = curves(results, verdicts)
    assert [plot.file for plot in plots] == ["loss_curves.png", "loss_gap.png"]
    with_curves = [row.label for row in verdicts.rows if row.done and row.verdict != "not comparable"]
    for plot, base in zip(plots, (1, 0), strict=True):
        figure = plot.figure
        labels = [re.sub(" [↑↓].*", "", label) for axes in figure.axes for label in texts(axes)]
        assert len(figure.axes) == 5  # norm, activation (two), position, block
        assert labels.count(verdicts.baseline.label) == base * len(figure.axes)
        assert sorted(set(labels) - {verdicts.baseline.label}) == sorted(with_curves)
        means = [line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 1.4]
        assert len(means) == len(with_curves) + base * len(figure.axes)
        bands = [[found for found in axes.collections if isinstance(found, FillBetween)] for axes in figure.axes]
        assert sum(map(len, bands)) == len(means)  # one for each line
        crosses = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
        assert len(crosses) == verdicts.of("diverged")[0].diverged


def test_costs(verdicts):
    figure = costs(verdicts).figure
    speed, flops = figure.axes
    drawn = [row for row in verdicts if row.verdict == "baseline" or math.isfinite(row.comparison.delta)]
    for axes in (speed, flops):
        points = [line for line in axes.lines if line.get_linestyle() == "None"]
        assert len(points) == len(texts(axes))  # every row has its name
        (front,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        losses = losses_of(verdicts)
        judged = [losses[row.label] for row in verdicts if row.verdict in ("baseline", "better", "worse")]
        assert all(any(loss == pytest.approx(y) for loss in judged) for y in front.get_ydata())
        assert (
            len(axes.lines) == len(points) + 2 and len(axes.patches) == 1
        )  # the baseline's cost, the front; the noise
    assert len([line for line in flops.lines if line.get_linestyle() == "None"]) == len(drawn) == 17
    (shown,) = figure.legends
    assert [text.get_text() for text in shown.get_texts()] == [
        *("better", "worse", "no difference detected", "no verdict", "diverged", "baseline"),
        *(
            "Pareto front of the baseline and the rows better or worse than it",
            "± sd of the baseline over its seeds",
        ),
    ]


def test_published(verdicts):
    found = agreements(verdicts, TABLE)
    sections = {row.label: row.section for row in verdicts}
    figure = published(found, TABLE.title, sections).figure
    final, early = figure.axes
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == ["final loss", "early loss"]
    for axes, agreement in zip(figure.axes, found[:2], strict=True):
        assert len(axes.containers) == len(agreement.labels) == 7
        assert set(texts(axes)) == set(agreement.labels)
        low, high = axes.get_ylim()
        assert low <= (agreement.ours - agreement.errors).min() and (agreement.ours + agreement.errors).max() <= high
        assert len(axes.collections) == 2 + len(agreement.labels)  # two shaded corners, a bar for each row
    assert legend(final) == ["norm", "activation"] and early.get_legend() is None
    logarithmic = any("symlog" in (axes.get_xscale(), axes.get_yscale()) for axes in figure.axes)
    assert ("far from zero they are logarithmic" in figure.get_suptitle()) == logarithmic


def test_agreement_over_training(results, verdicts):
    found = over_training(results, verdicts, TABLE)
    figure = agreement_over_training(found, TABLE.title).figure
    (axes,) = figure.axes
    assert len(axes.lines) == 1 + len(found.spearman) == 4
    assert texts(axes) == ["published final loss", "published early loss", "our own final loss"]
    orders = ("final_loss", "early_loss", OWN)
    assert [list(line.get_ydata()) for line in axes.lines[1:]] == [found.spearman[order] for order in orders]
    assert len({line.get_linestyle() for line in axes.lines[1:]}) == 3  # of two that coincide both can be seen


def test_heatmap(verdicts):
    figure = heatmap(verdicts).figure
    axes = figure.axes[0]
    rows = [row for row in verdicts.ordered() if row.done and row.verdict != "not comparable"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        f"{ {'better': '▼ ', 'worse': '▲ '}.get(row.verdict, '') }{row.label}" for row in rows
    ]
    mask = axes.images[0].get_array().mask
    assert [bool(line.all()) for line in mask] == [row.verdict not in ("better", "worse") for row in rows]
    assert 0 < mask[:, 0].sum() < len(rows)  # rows without a verdict have no colour
    assert [label.get_text() for label in axes.get_xticklabels()] == ["early loss", "final loss"]
    assert len(axes.images) == 1 and axes.images[0].get_array().shape == (len(rows), 2)
    assert len(texts(axes)) == 2 * len(rows)
    assert len(axes.lines) == len({row.section for row in rows}) - 1  # between sections


def replaced(verdicts, label, **changes):
    rows = [dataclasses.replace(row, **changes) if row.label == label else row for row in verdicts.rows]
    return dataclasses.replace(verdicts, rows=rows)


def test_an_interval_that_leaves_the_scale_ends_in_an_arrow(verdicts):
    row = verdicts.row("RMS Norm")
    wide = dataclasses.replace(row.comparison, low=-9.0, high=9.0)
    (axes,) = forest(replaced(verdicts, "RMS Norm", comparison=wide)).figure.axes
    edges = axes.get_xlim()
    arrows = {line.get_marker(): line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 5}
    assert arrows == {"<": edges[0], ">": edges[1]}
    (before,) = forest(verdicts).figure.axes
    assert not [line for line in before.lines if line.get_markersize() == 5]


def test_a_row_that_is_no_change_is_marked_as_not_counted(verdicts):
    (axes,) = forest(verdicts).figure.axes
    marked = [text for text in texts(axes) if text.endswith("not counted")]
    assert len(marked) == len([row for row in verdicts.rows if not row.is_change]) == 1


def test_one_row_far_off_does_not_flatten_the_curves_of_the_others(results, verdicts):
    plots = curves(results, verdicts)
    before = plots[0].figure.axes[0].get_ylim()
    far = {
        key: [(step, loss + 3) for step, loss in points] if key[0] == "GeLU" and key[2] == "train" else points
        for key, points in results.curves.items()
    }
    loss, gap = curves(dataclasses.replace(results, curves=far), verdicts)
    low, high = loss.figure.axes[0].get_ylim()
    assert high - low < 1.5 * (before[1] - before[0])
    assert before[1] < Curves.by_row(results)[verdicts.baseline.label].after(FIRST_PART * 200)[2][0]  # from above
    (label,) = [text for axes in loss.figure.axes for text in texts(axes) if text.startswith("GeLU")]
    (difference,) = [text for axes in gap.figure.axes for text in texts(axes) if text.startswith("GeLU")]
    assert re.fullmatch(r"GeLU ↑ [78]\.\d\d", label) and re.fullmatch(r"GeLU ↑ \+[23]\.\d\d", difference)


def test_the_baseline_lies_above_the_rows_that_cannot_be_told_from_it(verdicts):
    for axes in costs(verdicts).figure.axes:
        points = [line for line in axes.lines if line.get_linestyle() == "None"]
        star = max(points, key=lambda line: line.get_zorder())
        assert star.get_marker() == "*" and [line.get_zorder() for line in points].count(star.get_zorder()) == 1


def test_a_row_judged_against_another_row_than_the_baseline_says_so(verdicts):
    judged = replaced(verdicts, "SwiGLU", control="GeLU")
    for axes in costs(judged).figure.axes:
        assert "SwiGLU, against GeLU" in texts(axes)
        (front,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert not any(loss == pytest.approx(losses_of(judged)["SwiGLU"]) for loss in front.get_ydata())


def test_every_row_beside_a_published_table_has_its_name():
    label = list(TABLE.rows)[1:45]
    near = np.random.default_rng(0).normal(0, 0.01, len(label))
    far = np.where(np.arange(len(label)) > 36, 0.6, 0) + near
    found = dataclasses.replace(
        agreements(named_verdicts(dict.fromkeys(label, 0.0)), TABLE)[0],
        labels=label,
        ours=near,
        theirs=far,
        errors=near * 0,
    )
    (axes,) = published([found], TABLE.title, dict.fromkeys(label, "rows")).figure.axes
    assert len(set(texts(axes))) == len(label)
    assert axes.get_xscale() == "symlog"
    ticks = axes.get_xticks()
    assert 0 in ticks and len(ticks) >= 5
    places = axes.transData.transform([(tick, 0) for tick in ticks])[:, 0] / axes.get_window_extent().width
    assert np.diff(places).min() > 0.08


def test_the_bar_of_colours_can_be_read_beside_a_single_row(verdicts):
    single = dataclasses.replace(verdicts, rows=verdicts.of("better")[:1])
    figure = heatmap(single).figure
    assert figure.axes[1].get_position().height * figure.get_figheight() == pytest.approx(1.5)
