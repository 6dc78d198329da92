"""Strings from outside stay what they are in Markdown, CSV and LaTeX; numbers read as people write them."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.report import text
from ablate.report.render import latex

markdown = pytest.importorskip("markdown_it")

NASTY = [
    "a|b",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://example.com/x.png)",
    "`code` **bold** _it_ ~~gone~~ $x$",
    "# heading",
    "- item",
    "1. item",
    "two\nlines\r\n\x00| of it",
    "&amp; \\| `` \\",
    "=HYPERLINK(1)",
    "```\nfence",
]


def rendered(source):
    return markdown.MarkdownIt("gfm-like", {"linkify": False}).render(source)


@pytest.mark.parametrize("address", ["http://example.com", "see HTTPS://example.com/x", "www.example.com"])
def test_an_address_does_not_become_a_link(address):
    escaped = text.md_escape(address)
    assert "://" not in escaped and "www." not in escaped  # which GitHub looks for
    assert shown(rendered(escaped)) == address


@pytest.mark.parametrize("name", ["thanks to @someone", "someone@example.com", "a@b.co, and @org/team"])
def test_a_name_is_neither_mentioned_nor_written_to(name):
    escaped = text.md_escape(name)
    html = rendered(escaped)
    assert "<a" not in html and shown(html) == name
    nodes = re.split(r"<[^>]*>", html)  # GitHub looks for a mention in each piece of text between tags
    assert not any(re.search(r"@\w", node) for node in nodes)


def test_nothing_changes_the_direction_of_what_follows():
    assert text.one_line("a\u202eb\u2066c\u200fd") == "abcd" and text.csv_text("\u202e=cmd") == "'=cmd"


def shown(html):
    import html as entities

    return entities.unescape(re.sub(r"<[^>]*>", "", html)).strip()


@pytest.mark.parametrize("nasty", NASTY)
def test_markdown_shows_a_string_as_it_is(nasty):
    html = rendered(text.md_escape(nasty))
    assert shown(html) == text.one_line(nasty)
    assert re.sub(r"</?p>", "", html).count("<") == 0


@pytest.mark.parametrize("nasty", NASTY)
def test_a_table_keeps_its_shape(nasty):
    line = f"| {text.md_escape(nasty)} | {text.md_code(nasty, cell=True)} | end |"
    html = rendered(f"| a | b | c |\n|---|---|---|\n{line}\n")
    assert html.count("<td") == 3
    assert "<img" not in html and "<a " not in html


@given(st.text(max_size=40))
def test_markdown_of_any_text(string):
    html = rendered("x " + text.md_escape(string))
    assert shown(html) == ("x " + text.one_line(string)).strip()


@given(st.text(max_size=40))
def test_code_spans_of_any_text(string):
    plain = text.one_line(string)
    html = rendered(f"x {text.md_code(string)} y") if plain else "<code></code>"
    assert html.count("<code>") == 1


def test_a_fence_cannot_be_closed_from_inside():
    html = rendered(text.md_fenced(["ablate sweep x", "```` <b>", "# not a heading"]))
    assert html.count("<pre>") == 1 and "<b>" not in html and "<h1>" not in html


@given(st.text(max_size=30))
def test_no_csv_cell_is_a_formula_and_none_is_lost(string):
    cell = text.csv_text(string)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert text.csv_plain(cell) == text.one_line(string)
    file = io.StringIO()
    csv.writer(file).writerow([cell, "next"])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == [cell, "next"]


def test_latex():
    assert latex.latex_escape("a < b > c|d") == r"a \textless{} b \textgreater{} c\textbar{}d"
    assert latex.latex_escape(r"50 % of a_b & \x{~^$#}") == (
        r"50 \% of a\_b \& \textbackslash{}x\{\textasciitilde{}\textasciicircum{}\$\#\}"
    )


def test_numbers():
    assert text.fixed(-0.0314, 3, signed=True) == "−0.031"
    assert text.fixed(0.0001, 3, signed=True) == "0.000"
    assert text.fixed(float("nan"), 3) == "–"
    assert text.interval(-0.1, 0.25, 2) == "−0.10 to +0.25"
    assert text.scaled(223_043_328) == "223 M" and text.scaled(11.06e12) == "11.1 T" and text.scaled(999.6e6) == "1 G"
    assert text.significant(0.02136) == "0.021" and text.significant(131.4) == "131"
    assert text.probability(0.0004) == "< 0.001" and text.probability(0.0416) == "0.042"
    assert text.percent(0.5) == "+50 %" and text.percent(-0.031) == "−3.1 %" and text.percent(0.0) == "0 %"
    assert text.decimals(0.0123) == 3 and text.decimals(0.0034) == 4 and text.decimals(float("nan")) == 3
    assert text.shortened("norm=rmsnorm activation=swiglu") == "rmsnorm · swiglu"
    assert text.shortened("norm=rmsnorm") == "norm=rmsnorm" and text.shortened("x" * 50, 10) == "x" * 9 + "…"
    assert text.listed(["a"]) == "a" and text.listed(["a", "b", "c"]) == "a, b and c"
    assert text.listed(map(str, range(20)), 3) == "0, 1, 2 and 17 more"
