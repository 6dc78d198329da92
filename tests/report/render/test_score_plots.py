"""Scores as pictures: rows by scores, and differences with intervals, counted against the verdicts."""

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from ablate.report.analysis import gathering, reference
from ablate.report.analysis.judge import judge
from ablate.report.render.plots import drawing
from ablate.report.render.plots.heatmap import heatmap
from ablate.report.render.plots.score_forest import score_forests
from ablate.report.render.plots.score_heatmap import MOST_SCORES, score_heatmap
from ablate.report.render.score_tables import ScoreTables
from tests.report.scored import Made, with_scores
from tests.report.synthetic import large_sweep


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    maker = large_sweep(tmp_path_factory.mktemp("large"), rows=51)
    return judge(gathering.collect(maker.name, maker.runs, maker.sweeps))


@pytest.fixture(autouse=True)
def _style():
    with drawing.style():
        yield


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def cells(verdicts):
    """(row, score): the verdict, for the rows of the picture."""
    rows = [row for row in verdicts.ordered() if row.verdict != "not comparable"]
    return rows, {
        (y, x): table.verdicts[row.label]
        for y, row in enumerate(rows)
        for x, table in enumerate(verdicts.scores.tables.values())
    }


def test_rows_by_scores(scored):
    plot = score_heatmap(scored)
    axes = plot.figure.axes[0]
    rows, found = cells(scored)
    assert ticks(axes.yaxis) == [row.label for row in rows]
    assert ticks(axes.xaxis) == list(scored.scores.tables)
    assert len(axes.texts) == sum(math.isfinite(one.comparison.delta) for one in found.values())
    frames = {(round(patch.get_y()), round(patch.get_x())) for patch in axes.patches if patch.get_linewidth() > 1}
    hatched = {(round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)) for patch in axes.patches if patch.get_hatch()}
    assert frames == {place for place, one in found.items() if one.verdict in ("better", "worse")}
    assert hatched == {place for place, one in found.items() if one.verdict == "at chance"} and hatched
    families = [line for line in axes.lines if line.get_linewidth() == 1.6]
    assert [line.get_xdata()[0] for line in families] == [1.5]  # after the two primary scores


def test_one_colour_is_better_whatever_the_direction(scored):
    image = score_heatmap(scored).figure.axes[0].images[0].get_array()
    _, found = cells(scored)
    tables = [*scored.scores.tables.values()]
    for (y, x), one in found.items():
        units = image[y, x]
        if one.verdict in ("at chance", "diverged", "no verdict"):
            assert np.ma.is_masked(units)
            continue
        expected = tables[x].metric.sign * one.comparison.delta / one.comparison.detectable
        assert units == pytest.approx(expected)
        assert one.verdict != "better" or units < 0
        assert one.verdict != "worse" or units > 0


def test_the_numbers_are_the_differences_in_the_scores_own_unit(scored):
    axes = score_heatmap(scored).figure.axes[0]
    (row,) = [number for number, label in enumerate(ticks(axes.yaxis)) if label == "SwiGLU"]
    first, second = [text.get_text() for text in axes.texts if text.get_position()[1] == row][:2]
    of_superglue, of_wikitext = (table.verdicts["SwiGLU"].comparison.delta for table in scored.scores.primary)
    assert first == f"+{of_superglue:.2f}" and second == f"−{abs(of_wikitext):.4f}"


def test_without_noise_a_difference_has_the_full_colour_and_none_has_no_colour(plain):
    made = with_scores(plain, [Made("a", noise=0.0, error=0.0, item_error=0.0, effects=(("SwiGLU", 1.0),))])
    axes = score_heatmap(made).figure.axes[0]
    image = axes.images[0].get_array()
    rounded = with_scores(plain, [Made("a", noise=1e-14, error=1e-14, item_error=0.0, effects=(("SwiGLU", 1.0),))])
    assert np.array_equal(score_heatmap(rounded).figure.axes[0].images[0].get_array().filled(9), image.filled(9))
    values = dict(zip(ticks(axes.yaxis), image[:, 0], strict=True))
    assert values["SwiGLU"] == -1.5 and values["GeLU"] == 0.0


def test_scores_alone_of_one_kind_need_no_line(plain):
    primary = score_heatmap(with_scores(plain, [Made("superglue")])).figure
    assert "exploratory" not in primary.get_suptitle()
    exploratory = score_heatmap(with_scores(plain, [Made("boolq", False)])).figure
    assert "exploratory scores, a family of their own" in exploratory.get_suptitle()
    for figure in (primary, exploratory):
        assert not [line for line in figure.axes[0].lines if line.get_linewidth() == 1.6]


def test_nothing_is_drawn_without_scores(plain):
    assert score_heatmap(plain).figure is None and score_forests(plain) == []
    only = replace(plain, rows=plain.of("not comparable"))
    assert score_heatmap(with_scores(only, [Made("superglue")])).figure is None
    assert [plot.figure for plot in score_forests(with_scores(only, [Made("superglue")]))] == [None]


def test_what_is_left_out_is_said(large):
    many = with_scores(large, [Made(f"task_{number}", number < 2) for number in range(MOST_SCORES + 3)])
    plot = score_heatmap(many)
    assert len(ticks(plot.figure.axes[0].xaxis)) == MOST_SCORES
    assert plot.note == "3 scores more: see downstream.csv." and plot.note in plot.figure.get_suptitle()


def boxes(figure, texts):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in texts]


def apart(found):
    return not any(one.overlaps(other) for number, one in enumerate(found) for other in found[number + 1 :])


@pytest.mark.parametrize("number", [1, 25])
def test_no_text_lies_on_another_and_all_are_on_the_page(large, plain, number):
    names = ["a_score-with.a_very_long_name_of_more_than_thirty_letters"]
    names += [f"arc_challenge_bits_per_byte_{place}" for place in range(number)]
    made = [Made(name, place == 0, base=(60.0, 50.0, -12.0)[place % 3]) for place, name in enumerate(names)]
    for verdicts in (large, replace(plain, rows=plain.of("better")[:1])):
        figure = score_heatmap(with_scores(verdicts, made)).figure
        axes = figure.axes[0]
        labels = [text for text in axes.get_xticklabels() + axes.get_yticklabels() if text.get_text()]
        bar = figure.axes[1].get_yticklabels()
        assert figure.legends
        found = boxes(figure, [*axes.texts, *labels, figure._suptitle, *figure.legends, *bar])
        assert apart(found)
        width, height = figure.get_size_inches() * figure.dpi
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in found)


def test_names_that_begin_alike_stay_apart(plain):
    names = ["lambada_openai_bits_per_byte_of_the_answer", "lambada_openai_bits_per_byte_of_the_text"]
    shown = ticks(score_heatmap(with_scores(plain, [Made(name) for name in names])).figure.axes[0].xaxis)
    assert len({*shown}) == 2 and max(map(len, shown)) <= 30


def test_a_forest_for_each_primary_score(scored):
    plots = score_forests(scored)
    assert [plot.file for plot in plots] == ["forest_superglue.png", "forest_wikitext.png"]
    for plot, table in zip(plots, scored.scores.primary, strict=True):
        (axes,) = plot.figure.axes
        found = {label: one for label, one in table.verdicts.items() if label != scored.baseline.label}
        shown = [one for one in found.values() if one.verdict != "not comparable"]
        tested = [one for one in shown if math.isfinite(one.comparison.low)]
        beyond = [line for line in axes.lines if line.get_markersize() == 5]  # intervals that leave the scale
        assert len(axes.lines) - len(beyond) == 1 + 2 * len(shown) + len(tested)
        markers = {line.get_marker(): to_hex(line.get_color()) for line in axes.lines if line.get_markersize() == 6}
        higher = table.metric.higher_is_better
        better, worse = ("^", "v") if higher else ("v", "^")
        assert markers[better] == drawing.BLUE.lower() and markers[worse] == drawing.VERMILLION.lower()
        assert axes.get_xlabel().endswith("← worse · better →" if higher else "← better · worse →")
        texts = [text.get_text() for text in axes.texts]
        assert any(text.endswith("n=2  no verdict, 2 shared seeds, 3 are needed") for text in texts)
        labels = [text for text in texts if text in found]
        places = [(scored.row(label).section, table.metric.sign * found[label].comparison.delta) for label in labels]
        assert places == sorted(places, key=lambda place: (scored.sections.index(place[0]), place[1]))
        assert plot.figure.get_suptitle().startswith(f"{table.metric.name}: ")
    assert plots[0].figure.axes[0].get_xlabel().startswith("superglue minus the baseline's, per cent")


def test_no_two_pictures_have_the_same_file(plain):
    made = with_scores(plain, [Made("質問"), Made("回答"), Made("a/b")])
    files = [plot.file for plot in score_forests(made)]
    assert sorted(files) == ["forest___.png", "forest____.png", "forest_a_b.png"]
    assert [one["forest"] for one in ScoreTables(made, reference.load("narang2021")).primary] == files


def test_the_seeds_of_a_forest_are_differences_to_the_control(scored):
    table = scored.scores.tables["superglue"]
    (axes,) = score_forests(scored)[0].figure.axes
    ticks = [line.get_xdata() for line in axes.lines if line.get_marker() == "|" and line.get_markersize() == 4]
    expected = table.values["SwiGLU"] - table.values[scored.baseline.label]
    assert any(np.array_equal(xs, expected, equal_nan=True) for xs in ticks)


def test_a_row_at_chance_has_a_mark_of_its_own(plain):
    (plot,) = score_forests(with_scores(plain, [Made("rte", base=50.0)]))
    (axes,) = plot.figure.axes
    assert "at chance" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert any(text.get_text().endswith("at chance") for text in axes.texts)


def test_the_heat_map_of_losses_has_no_scores(scored, plain):
    assert ticks(heatmap(scored).figure.axes[0].xaxis) == ["early loss", "final loss"]
    assert "both losses" in heatmap(scored).caption and "every metric" in heatmap(plain).caption
