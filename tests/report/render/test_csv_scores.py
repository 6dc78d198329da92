"""The scores in results.csv, and downstream.csv."""

import csv
import io
from dataclasses import replace

import pytest

from ablate.report.render.csv_tables import (
    DOWNSTREAM_COLUMNS,
    RESULT_COLUMNS,
    SCORE_ENDINGS,
    downstream_csv,
    results_csv,
    score_columns,
)
from tests.report.scored import Made, with_scores


def read(text):
    return [*csv.DictReader(io.StringIO(text))]


def test_each_score_has_its_columns_after_the_fixed_ones(scored):
    head = results_csv(scored).splitlines()[0].split(",")
    names = list(scored.scores.tables)
    assert head == [*RESULT_COLUMNS, *(f"{name}{ending}" for name in names for ending in ("", *SCORE_ENDINGS))]
    assert SCORE_ENDINGS == ("_std", "_delta", "_low", "_high", "_p_adjusted", "_verdict")


def test_difference_interval_and_verdict_of_a_score(scored):
    lines = {line["row"]: line for line in read(results_csv(scored))}
    found = scored.scores.tables["superglue"].verdicts["SwiGLU"].comparison
    line = lines["SwiGLU"]
    for ending, value in (("delta", found.delta), ("low", found.low), ("high", found.high), ("p_adjusted", 0.02)):
        assert float(line[f"superglue_{ending}"]) == pytest.approx(value, rel=1e-5)
    assert line["superglue_verdict"] == "better" and line["verdict"] == "better"
    assert (lines["No position"]["wikitext_verdict"], lines["Sigmoid"]["wikitext_low"]) == ("worse", "")
    base = lines["Vanilla Transformer"]
    assert base["superglue_verdict"] == "baseline" and base["superglue_delta"] == "" and float(base["superglue"]) > 50


def test_the_verdicts_of_exploratory_scores_say_so(scored):
    for line in read(results_csv(scored)):
        for table in scored.scores.exploratory:
            verdict = line[f"{table.metric.name}_verdict"]
            plain = table.verdicts[line["row"]].verdict
            judged = plain in ("better", "worse", "no difference detected", "at chance")
            assert verdict == (f"{plain} (exploratory)" if judged else plain)
        assert "exploratory" not in line["superglue_verdict"]


def test_no_two_columns_have_the_same_name(plain):
    names = ["x", "x_std", "x_delta", "x_delta_", "p", "final_loss"]
    columns = score_columns(names)
    assert len({*columns, *RESULT_COLUMNS} - {"final_loss"}) == len(columns) + len(RESULT_COLUMNS) - 2
    assert columns[:3] == ["x", "x_std_", "x_delta__"] and columns.count("x_delta") == 1
    assert "p_p_adjusted" in columns
    made = with_scores(plain, [Made("x"), Made("x_delta", base=70.0)])
    line = read(results_csv(made))[0]
    assert float(line["x_delta"]) == pytest.approx(70, abs=2) and line["x_delta_"] == ""


def test_a_row_without_the_score_has_empty_cells(plain):
    scored = with_scores(plain, [Made("superglue")])
    table = scored.scores.tables["superglue"]
    for mapping in (table.values, table.verdicts):
        del mapping["GeLU"]
    line = next(line for line in read(results_csv(scored)) if line["row"] == "GeLU")
    assert [line[column] for column in score_columns(["superglue"])] == [""] * 7
    assert "GeLU" not in {line["row"] for line in read(downstream_csv(scored))}


def test_downstream_csv_has_the_evidence_for_each_row_and_score(scored):
    lines = read(downstream_csv(scored))
    assert list(lines[0]) == list(DOWNSTREAM_COLUMNS)
    tables = scored.scores.tables
    assert [(line["score"], line["row"]) for line in lines] == [
        (name, row.label) for name in tables for row in scored if row.label in tables[name].verdicts
    ]
    line = next(line for line in lines if (line["score"], line["row"]) == ("superglue", "SwiGLU"))
    found = tables["superglue"].verdicts["SwiGLU"].comparison
    assert float(line["delta"]) == pytest.approx(found.delta, rel=1e-5) and line["verdict"] == "better"
    assert (line["family"], line["unit"], line["higher_is_better"]) == ("primary", "per cent", "1")
    assert (line["standard_error_of_seeds"], line["standard_error_of_items"], line["item_noise"]) == (
        *("0.4", "0.3", "paired by item"),
    )
    assert (line["chance"], line["items"], line["alpha"], line["against"]) == (
        "50",
        "2100",
        "0.025",
        scored.baseline.label,
    )
    assert line["not_comparable_because"] == "a fifth of the training passages, held out"
    boolq = next(line for line in lines if (line["score"], line["row"]) == ("superglue_boolq", "SwiGLU"))
    assert (boolq["family"], boolq["verdict"]) == ("exploratory", "at chance")
    assert next(line for line in lines if line["score"] == "wikitext")["higher_is_better"] == "0"


def test_no_spreadsheet_reads_a_name_as_a_formula(plain):
    rows = [replace(row, label="=1+1", why="@x") if row.label == "SwiGLU" else row for row in plain.rows]
    scored = with_scores(replace(plain, rows=rows), [Made("=cmd", unit="+1", not_comparable="-2\n=3")])
    for text in (results_csv(scored), downstream_csv(scored)):
        cells = [cell for line in csv.reader(io.StringIO(text)) for cell in line]
        numbers = [cell for cell in cells if cell.startswith(("+", "-", "=", "@"))]
        assert all(float(cell) is not None for cell in numbers)
