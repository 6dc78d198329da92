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
