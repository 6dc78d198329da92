"""Labels in table.tex: shown literally, and compiled by pdflatex or said to need another engine."""

import shutil
import subprocess

import pytest

from ablate.report.render.latex import beyond_pdflatex, latex_escape

SHOWN = {
    r"_%&#${}": r"\_\%\&\#\$\{\}",
    "~^\\": r"\textasciitilde{}\textasciicircum{}\textbackslash{}",
    "a<b>c|d": r"a\textless{}b\textgreater{}c\textbar{}d",
    "α→Ω": r"$\alpha$$\rightarrow$$\Omega$",
    "± × ≤ 90°": r"$\pm$ $\times$ $\leq$ 90$^{\circ}$",
    "µP, x²": r"$\mu$P, x$^{2}$",
    "naïve Łukasz": "naïve Łukasz",
    "cafe\u0301": "café",
    "a−b – c": "a$-$b -- c",
    "one\ntwo\x07\x1b[31m": "one two [31m",
    "safe\u202egnp": "safegnp",
}


@pytest.mark.parametrize("label", SHOWN)
def test_labels_that_pdflatex_can_set(label):
    assert latex_escape(label) == SHOWN[label]
    assert beyond_pdflatex(label) == ""


def test_what_it_leaves_is_what_every_font_of_latex_has():
    for number in range(0x3000):
        character = chr(number)
        if beyond_pdflatex(character):
            continue
        left = [one for one in latex_escape(character) if not one.isascii()]
        assert all((one.isalpha() and one <= "\u017f") or one in "¡¿" for one in left), hex(number)


@pytest.mark.parametrize(("label", "beyond"), [("🙂 ok", "🙂"), ("漢字漢", "漢字"), ("привет", "привет"), ("ąđ", "ąđ")])
def test_what_needs_another_engine_is_found(label, beyond):
    assert beyond_pdflatex(label) == beyond and latex_escape(label) == label


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
@pytest.mark.timeout(120)
def test_pdflatex_sets_them(tmp_path):
    rows = "".join(f"{{}}{latex_escape(label)} & 1 \\\\\n" for label in SHOWN)
    source = rf"\documentclass{{article}}\begin{{document}}\begin{{tabular}}{{lr}}{rows}\end{{tabular}}\end{{document}}"
    (tmp_path / "t.tex").write_text(source)
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
