"""The verdicts as lines for a terminal."""

from dataclasses import replace

from ablate.report.render.terminal import lines_of
from ablate.study.expectations import Expectation


def test_a_sentence_then_the_rows_that_matter_most_the_best_first(plain):
    first, head, *rows, last = lines_of(plain)
    assert first.startswith("Of 15 changes to Vanilla Transformer, 3 are better, 3 are worse, 5 are undecided")
    assert head.split() == ["change", "difference", "interval", "verdict"]
    assert len(rows) == 15 and last == "  1 more in the report"
    assert rows[0].split() == ["SwiGLU", *rows[0].split()[1:5], "better"]
    shown = [row.label for row in plain.rows if any(line.strip().startswith(row.label) for line in rows)]
    assert {row.label for row in plain.rows if row.verdict in ("better", "worse")} <= set(shown)
    differences = [float(line.split()[1].replace("−", "-")) for line in rows[:2]]
    assert differences == sorted(differences) and differences[0] < 0


def test_what_is_expected_the_control_and_why_there_is_no_verdict(plain):
    expected = {"SwiGLU": "better", "No position": "equal", "RMS Norm": "equal"}
    rows = [
        replace(row, expected=Expectation(expected[row.label], "me")) if row.label in expected else row
        for row in plain.rows
    ]
    rows = [replace(row, control="SwiGLU") if row.label == "GeGLU" else row for row in rows]
    text = "\n".join(lines_of(replace(plain, rows=rows)))
    assert "better, as expected\n" in text and "worse, equal was expected\n" in text
    assert "GeGLU (against SwiGLU)" in text
    assert "diverged (2 of 3 seeds)" in text and "no verdict (1 shared seed, 3 are needed)" in text


def test_strings_from_outside_stay_on_their_line(plain):
    rows = [replace(row, label="a\nb\x1b[31m" + "c" * 90) if row.label == "SwiGLU" else row for row in plain.rows]
    assert len(lines_of(replace(plain, rows=rows))) == 2 + 15 + 1
    assert max(map(len, lines_of(replace(plain, rows=rows))[2:])) < 140
