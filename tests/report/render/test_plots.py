"""The helpers of the plots: labels that keep apart, axes that bear an outlier, steady bytes."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from ablate.report.render.plots import drawing


def test_labels_are_spread_no_more_than_needed():
    assert drawing.spread_out([1.0, 5.0, 3.0], 1.0) == pytest.approx([1, 5, 3])
    placed = drawing.spread_out([1.0, 1.1, 1.05, 9.0], 0.5)
    assert placed == pytest.approx([0.55, 1.55, 1.05, 9.0])
    crowd = drawing.spread_out(np.zeros(7), 2.0)
    assert np.diff(np.sort(crowd)) == pytest.approx([2] * 6) and crowd.mean() == pytest.approx(0)


def test_one_wild_row_does_not_set_the_scale():
    low, high = drawing.robust_limits([-0.02, 0.01, 0.03, 0.04, -0.01, 1.4], 0.01)
    assert low == -0.02 and high == 0.04
    assert drawing.robust_limits([], 0.5) == (-0.5, 0.5)
    assert drawing.robust_limits([np.nan, 0.001], 0.5) == (-0.5, 0.5)


def test_names_of_points_do_not_overlap():
    with drawing.style():
        figure = Figure(figsize=(5, 4))
        axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        noise = np.random.default_rng(0).random((30, 2))
        left_out = drawing.label_points(axes, [(x, y, f"point {i}", "black") for i, (x, y) in enumerate(noise)])
        renderer = figure.canvas.get_renderer()
        for text in axes.texts:
            text.update_positions(renderer)
        boxes = [Text.get_window_extent(text, renderer) for text in axes.texts]  # without the line to the point
        assert len(boxes) + len(left_out) == 30 and len(boxes) > 15
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                assert not (
                    one.x0 + 1 < other.x1 and other.x0 + 1 < one.x1 and one.y0 + 1 < other.y1 and other.y0 + 1 < one.y1
                )


def test_the_users_own_settings_do_not_show(tmp_path):
    def picture(path):
        with drawing.style():
            figure = Figure(figsize=(3, 2))
            axes = figure.add_subplot()
            axes.plot([0, 1], [0, 1])
            axes.set_title("$not math$")
            drawing.save(figure, path)
        return path.read_bytes()

    before = picture(tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 30}):
        assert picture(tmp_path / "b.png") == before
    assert b"Software" not in before
    vectors = [(tmp_path / name).read_bytes() for name in ("a.pdf", "b.pdf")]
    assert vectors[0] == vectors[1] and vectors[0].startswith(b"%PDF") and b"CreationDate" not in vectors[0]


def test_a_row_only_somewhat_farther_than_the_others_stays_on_the_scale():
    bulk = [-0.1, 0.0, 0.0, 0.0, 0.01, 0.02, 0.02, 0.02, 0.02, 0.05]
    assert drawing.robust_limits([*bulk, 0.13], 0.01) == (-0.1, 0.13)
    assert drawing.robust_limits([*bulk, 0.14], 0.01) == (-0.1, 0.05)


def test_labels_stay_between_the_limits_where_there_is_room():
    assert drawing.spread_out([0.0, 0.1, 0.2], 1.0, 0.0, 9.0) == pytest.approx([0, 1, 2])
    assert drawing.spread_out([9.0, 8.9, 0.0], 1.0, 0.0, 9.0) == pytest.approx([9, 8, 0])
    assert drawing.spread_out([0.0, 0.1, 0.2], 5.0, 0.0, 9.0) == pytest.approx([-4.9, 0.1, 5.1])  # no room


def test_two_rows_never_have_the_same_name():
    rows = ["A row with a long name, first", "A row with a long name, second", "short"]
    assert list(drawing.names(rows, 20).values()) == ["A row with…me, first", "A row with…e, second", "short"]
    assert drawing.names(rows[1:], 20)[rows[1]] == "A row with a long n…"


def panel(height=4.0):
    figure = Figure(figsize=(5, height))
    axes = figure.add_axes((0.1, 0.1, 0.6, 0.8))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    return axes


def test_a_line_off_the_scale_has_an_arrow_and_its_value():
    with drawing.style():
        axes = panel()
        drawing.label_lines(axes, [(1, 0.5, "inside", "black"), (1, 5.012, "above", "red"), (1, -2, "below", "red")])
        assert [text.get_text() for text in axes.texts] == ["inside", "above ↑ 5.01", "below ↓ −2.00"]
        (ties,) = axes.collections
        assert [segment[0][1] for segment in ties.get_segments()] == pytest.approx([0.5, 1, 0])
        signed = panel()
        drawing.label_lines(signed, [(1, 1.5, "above", "red")], signed=True)
        assert [text.get_text() for text in signed.texts] == ["above ↑ +1.50"]


def test_a_name_without_a_line_is_clearly_nearest_to_its_own_point():
    with drawing.style():
        axes = panel()
        upper, lower = axes.transData.inverted().transform([(200, 203), (200, 200)])
        assert (
            drawing.label_points(axes, [(*upper, "upper", "black"), (*lower, "lower", "black")], only_near=True) == []
        )
        above, below = (text.xyann for text in axes.texts)
        assert above[1] > 0 > below[1] and above[0] < 0 > below[0]  # not beside them, where both would be as near
