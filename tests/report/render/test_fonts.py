"""Labels in letters that the plots' font lacks."""

import logging

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager

from ablate.report import build
from ablate.report.render.plots import drawing, fonts
from tests.report.synthetic import Maker

LABEL, SECTION = "注意力 🦜", "規範化"


@pytest.fixture
def no_other_fonts(monkeypatch):
    """As on a machine with no fonts but those of matplotlib."""
    folder = matplotlib.get_data_path()
    own = [font for font in font_manager.fontManager.ttflist if font.fname.startswith(folder)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    _forget()
    yield
    monkeypatch.undo()
    _forget()


def _forget():
    for cached in (fonts._installed, fonts._has, fonts._font):
        cached.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


@pytest.fixture
def square_font(no_other_fonts, tmp_path):
    """An installed font in which one letter is a black square."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    for move, point in zip((pen.moveTo, *[pen.lineTo] * 3), ((0, 0), (0, 700), (700, 700), (700, 0)), strict=True):
        move(point)
    pen.closePath()
    empty = TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord("注"): "square"})
    builder.setupGlyf({".notdef": empty, "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (700, 0), "square": (800, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test Squares", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")
    _forget()


def test_letters_that_no_font_has_are_written_out(no_other_fonts):
    with drawing.style([LABEL]):
        assert drawing.label(LABEL, 60) == "\\u6ce8\\u610f\\u529b \\U0001f99c"
        assert drawing.label("naïve Δ–loss → ½") == "naïve Δ–loss → ½"
        assert drawing.label("注" * 100, 12) == "\\u6ce8\\u6ce…"


def test_an_installed_font_that_has_a_letter_draws_it(square_font):
    with drawing.style(["plain"]):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans"]
    with drawing.style([LABEL]):
        assert matplotlib.rcParams["font.family"] == ["DejaVu Sans", "Test Squares"]
        assert drawing.label(LABEL, 60) == "注\\u610f\\u529b \\U0001f99c"
        figure = matplotlib.figure.Figure(figsize=(1, 1))
        figure.text(0.2, 0.4, drawing.label("注"), color="black", size=30)
        canvas = drawing.FigureCanvasAgg(figure)
        canvas.draw()
        assert (np.asarray(canvas.buffer_rgba())[..., 0] < 50).sum() > 500  # a black square, no outline of a box


@pytest.mark.filterwarnings("error")
def test_a_report_of_such_labels_warns_of_no_glyph(no_other_fonts, tmp_path, caplog):
    maker = Maker(tmp_path, name="letters", baseline="基線")
    maker.add("基線", SECTION, [])
    maker.add(LABEL, SECTION, ["norm=rmsnorm"])
    maker.add("Ω 한국어", "節", ["activation=swiglu"])
    for seed in range(3):
        for number, (label, change) in enumerate({"基線": [], LABEL: ["norm=rmsnorm"], "Ω 한국어": []}.items()):
            scores = {"質問": 0.3 + seed / 100 + number / 50}
            maker.run(label, seed, change, final=5 + maker.seed_effects[seed] + number / 10, downstream=scores)
    maker.write_sweep()
    with caplog.at_level(logging.WARNING):
        report = build.build(maker.name, maker.runs, maker.reports, maker.sweeps).path
    assert not caplog.records
    assert {"forest.png", "heatmap.png"} <= {path.name for path in report.parent.glob("*.png")}
