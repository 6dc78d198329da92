"""table.tex: its marks and legend, its structure, and its width."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from ablate.report.analysis.verdicts import SAME
from ablate.report.render.paper_table import HEADS, table_tex
from ablate.report.render.score_latex import ABREAST, DETAILED, downstream_tex
from tests.report.scored import Made, usual, with_scores

END = r"\tabularnewline"
TEXT_WIDTH = 345  # pt, of article at 10 pt
SEPARATION = 1.5  # pt, on each side of a column


def scored(verdicts, names):
    """The same rows with primary scores of these names."""
    return with_scores(verdicts, [Made(name) for name in names])


def lines_of(text):
    return [line.removesuffix(END).strip() for line in text.splitlines() if line.endswith(END)]


def cells_of(text):
    """The cells of each row by label."""
    found = {}
    for line in lines_of(text):
        label, *cells = line.removeprefix(r"{}\raggedright ").split(" & ")
        found[label] = [cell.strip() for cell in cells]
    return found


def test_marks_intervals_and_what_stands_in_their_place(plain):
    cells = cells_of(table_tex(plain))
    differences = {label: line[5:] for label, line in cells.items() if len(line) == len(HEADS) - 1}
    row = plain.row("SwiGLU").comparison

    def number(value):
        return f"{'$-$' if value < 0 else '+'}{abs(value):.3f}"

    assert differences["Vanilla Transformer"] == ["", "", "5"]
    between = f"{number(row.low)} to {number(row.high)}"
    assert differences["SwiGLU"] == [rf"\textbf{{{number(row.delta)}}}", between, "3"]
    assert (
        differences["No position"][0] == rf"{number(plain.row('No position').comparison.delta)}\textsuperscript{{\dag}}"
    )
    assert differences["RMS Norm"][0] == number(plain.row("RMS Norm").comparison.delta)
    assert differences["No norm, deep"][1:] == ["diverged: 2 of 3", "1"]
    assert differences["Squared ReLU"][1:] == ["1 seed", "1"]
    assert differences["Larger vocabulary"][:2] == ["--", "not comparable"]


def test_a_row_says_what_it_is_compared_with_and_that_it_is_the_same(plain):
    rows = [replace(row, control="SwiGLU") if row.label == "GeGLU" else row for row in plain.rows]
    rows = [replace(row, verdict=SAME, within=0.02) if row.label == "GeLU" else row for row in rows]
    text = table_tex(replace(plain, rows=rows))
    cells = cells_of(text)
    assert r"\textsuperscript{a}" in cells["GeGLU"][5] and r"\textsuperscript{$\approx$}" in cells["GeLU"][5]
    assert r"(rows marked by a letter: of \textsuperscript{a}SwiGLU)" in text
    assert r"$\approx$: the same within 0.02 nats;" in text and r"$\approx$" not in table_tex(plain)


def test_the_sections_are_headed(plain):
    lines = lines_of(table_tex(plain))
    heads = [line.partition("emph{")[2].rstrip("}") for line in lines if "multicolumn" in line]
    assert heads == plain.sections and table_tex(plain).count(r"\midrule") == 1 + len(heads)
    long = replace(plain, rows=[replace(row, section="s" * 99 if row.section == "norm" else "x") for row in plain.rows])
    assert rf"\multicolumn{{9}}{{@{{}}l@{{}}}}{{\emph{{{'s' * 44}$\ldots$}}}}" in table_tex(long)
    one = replace(plain, rows=[replace(row, section="rows") for row in plain.rows])
    assert "multicolumn" not in table_tex(one) and table_tex(one).count(r"\midrule") == 2


def check(text, tables):
    """That braces and environments are balanced, and each row of so many tables has a cell for each column."""
    plain = re.sub(r"\\[{}%]", "", re.sub(r"(?m)^%.*$", "", text))
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert re.findall(r"\\begin{([a-z*]+)}", text) == re.findall(r"\\end{([a-z*]+)}", text)
    assert text.count(r"\begingroup") == text.count(r"\endgroup") == 1
    found = re.findall(r"\\begin{tabular\*}{\\textwidth}{([^\n]*)}\n(.*?)\\end{tabular\*}", text, flags=re.DOTALL)
    assert len(found) == tables
    for columns, body in found:
        number = len(re.sub(r"@{[^}]*}+|p{[^}]*}", lambda found: "p" if found[0][0] == "p" else "", columns))
        for line in lines_of(body):
            assert line.count(" & ") + 1 == number or line.startswith(rf"\multicolumn{{{number}}}")
    assert set(re.findall(r"usepackage{(\w+)}", text)) == {"booktabs"}


@pytest.mark.parametrize("names", [(), ("mnli", "a_score_with-a.long/name"), tuple(f"task_{n}" for n in range(7))])
def test_it_is_balanced_and_each_row_has_a_cell_for_each_column(plain, names):
    check(table_tex(scored(plain, names) if names else plain), 1 + -(-len(names) // ABREAST))


def width(cell):
    """Of a cell in scriptsize, in pt: Computer Modern at 7 pt is an eighth wider than its 10 pt design."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    plain = re.sub(r"\\text(bf|superscript){(.*?)}", r"\2", cell).replace("$-$", "+").replace(r"$\pm$", "+")
    plain = re.sub(r"\\[A-Za-z]+", "x", plain).replace("$", "")
    font = FontProperties(family="cmr10", size=7)
    return 1.14 * TextToPath().get_text_width_height_descent(plain, font, ismath=False)[0]


@pytest.mark.parametrize(("noise", "scale"), [(0.008, 1.0), (0.0001, 1.0), (0.008, -1.0)])
def test_it_fits_the_text(plain, noise, scale):
    """Whatever the number of decimals: the widest cells of all columns together, and the first column as given."""
    rows = [replace(row, comparison=replace(row.comparison, delta=scale * row.comparison.delta)) for row in plain]
    text = table_tex(replace(plain, baseline=rows[0], rows=rows[1:], noise=noise))
    first = float(re.search(r"p{([\d.]+)\\textwidth}", text)[1]) * TEXT_WIDTH
    columns = np.array([[*map(width, cells)] for cells in cells_of(text).values() if len(cells) == len(HEADS) - 1])
    assert len(columns) > 10
    assert first + columns.max(0).sum() + 2 * SEPARATION * (len(HEADS) - 1) <= TEXT_WIDTH


def test_no_label_is_wider_than_its_column():
    from ablate.report.render.latex import latex_breakable, latex_escape

    assert latex_breakable("Multi-query attention") == "Multi-query attention"
    assert latex_breakable("norm=rmsnorm_encoder") == r"norm=\allowbreak{}rmsnorm\_\allowbreak{}encoder"
    for label in ("w" * 100, "schedule.peak=0.0123456789012345", "50%_of_the_steps_{x}"):
        shown = latex_breakable(label)
        assert shown.replace(r"\allowbreak{}", "") == latex_escape(label)
        assert max(len(part.replace("\\", "")) for part in shown.split(r"\allowbreak{}")) <= 12


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
@pytest.mark.timeout(120)
def test_pdflatex_sets_it_within_the_text(plain, tmp_path):
    named = with_scores(plain, [Made("mnli"), Made("a_score_with-a.long/name"), Made("single", False)])
    tables = table_tex(named) + downstream_tex(named)
    source = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{tables}\end{{document}}"
    (tmp_path / "t.tex").write_text(source)
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout[-2000:]


def test_primary_scores_are_columns_with_the_marks_of_their_verdicts(plain):
    text = table_tex(usual(plain))
    cells = {label: line for label, line in cells_of(text).items() if len(line) == 2}
    assert r"& \raggedright superglue & \raggedright wikitext " in text
    assert re.fullmatch(r"\\textbf{6\d\.\d\d}", cells["SwiGLU"][0])
    assert re.fullmatch(r"\d\d\.\d\d\\textsuperscript{\\dag}", cells["No position"][0])
    assert re.fullmatch(r"\d\d\.\d\d", cells["GeLU"][0]) and re.fullmatch(
        r"\d\d\.\d\d", cells["Vanilla Transformer"][0]
    )
    assert cells[r"\emph{Chance}"] == ["50", "--"] and cells[r"\emph{Detectable}"] == ["2.0", "0.032"]
    assert "boolq" not in text and "exploratory" not in text.lower()
    assert "Scores: means over seeds; superglue (per cent, higher is better) and wikitext" in text
    assert "at chance" not in text and "at chance" in table_tex(with_scores(plain, [Made("rte", base=50.0)]))


def test_a_score_says_what_its_row_is_compared_with(plain):
    rows = [replace(row, control="SwiGLU") if row.label == "GeGLU" else row for row in plain.rows]
    other = with_scores(replace(plain, rows=rows), [Made("superglue", effects=(("GeGLU", 5.0),))])
    assert re.search(r"GeGLU & \\textbf{\d\d\.\d\d}\\textsuperscript{a}", table_tex(other))
    assert r"superglue & Score & $\Delta$" in downstream_tex(other)
    assert r"\textsuperscript{a}SwiGLU), over shared seeds." in downstream_tex(other)


def test_downstream_tex_has_primary_scores_in_detail_and_the_others_side_by_side(plain):
    scored = usual(plain)
    text = downstream_tex(scored)
    check(text, 2 + 2)
    first, second = text.index(r"\raggedright superglue & Score"), text.index(r"\raggedright wikitext & Score")
    assert first < second < text.index(r"Row & \raggedright lambada")
    detailed = {label: line for label, line in cells_of(text[first:second]).items() if len(line) == len(DETAILED)}
    found = scored.scores.tables["superglue"].verdicts["SwiGLU"].comparison
    assert detailed["SwiGLU"][1:] == [
        *(rf"\textbf{{+{found.delta:.2f}}}", f"+{found.low:.2f} to +{found.high:.2f}", "0.020", "3"),
    ]
    assert re.fullmatch(r"6\d\.\d\d \$\\pm\$ 0\.\d\d", detailed["SwiGLU"][0])
    assert list(detailed)[:2] == [r"\raggedright superglue", "Vanilla Transformer"]
    assert detailed["Vanilla Transformer"][1:] == ["", "", "", "5"] and detailed["Sigmoid"][2:] == ["--", "--", "2"]
    assert "Exploratory, a family of their own: lambada, superglue" in text
    assert (
        r"\textsuperscript{$\circ$}: at chance" in text and "Not comparable with published figures: superglue, " in text
    )
    only = downstream_tex(with_scores(plain, [Made("boolq", False, base=90.0)]))
    check(only, 1)
    assert r"$\Delta$" not in only and "at chance" not in only and "Not comparable" not in only


def test_names_of_scores_are_escaped(plain):
    nasty = with_scores(plain, [Made("50%_{x}&y", unit="$\\n"), Made("ж_task", False)])
    text = downstream_tex(nasty)
    check(text, 2)
    assert r"50\%\_\{x\}\&y" in text and r"\$\textbackslash{}n" in text
    assert "% needs XeLaTeX or LuaLaTeX, and a font that has ж" in text and "XeLaTeX" not in table_tex(nasty)


def test_scores_fit_the_text(plain):
    """The first column and the widest cells of the detailed tables; side by side, each cell its column."""
    wide = with_scores(plain, [Made("perplexity", base=1234.0, noise=0.004), Made("tiny", base=-1.0, noise=0.00004)])
    for text in downstream_tex(wide).split(r"\par\medskip"):
        columns = np.array([[*map(width, cells)] for cells in cells_of(text).values() if len(cells) == len(DETAILED)])
        first = 0.28 * TEXT_WIDTH
        assert first + columns.max(0).sum() + 2 * SEPARATION * len(DETAILED) <= TEXT_WIDTH
    beside = [cells for cells in cells_of(table_tex(wide)).values() if len(cells) == 2]
    assert max(width(cell) for cells in beside for cell in cells) <= 0.13 * TEXT_WIDTH
    assert 0.28 + ABREAST * 0.13 + 2 * SEPARATION * ABREAST / TEXT_WIDTH <= 1
