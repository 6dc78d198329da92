"""docs/records.md describes every field of a record, every column of results.csv and downstream.csv, nothing else."""

from __future__ import annotations

import json
import re

import pytest

from ablate.report.render.csv_tables import DOWNSTREAM_COLUMNS, RESULT_COLUMNS, score_columns
from ablate.report.render.gain_text import GAIN_COLUMNS
from tests.docs.texts import ROOT

TEXT = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
OF_REPORTS = {"kind", "settings"}  # what records.jsonl has beside the record itself


def described(heading: str, columns: str) -> list[str]:
    """The names in the first column of the table with this head below a heading."""
    section = TEXT.partition(heading)[2].partition(columns)[2]
    table = section.lstrip("\n").partition("\n\n")[0].splitlines()
    return [name for line in table for name in re.findall(r"`(\w+)`", line.split(" | ")[0])]


def test_every_column_of_the_results_in_order():
    assert sorted(described("Columns of `results.csv`", "|---|---|---|")) == sorted(RESULT_COLUMNS)


def test_every_column_of_a_gain():
    assert described("nine columns", "|---|---|---|") == list(GAIN_COLUMNS)


def test_every_column_of_a_score():
    assert described("here of `superglue`", "|---|---|---|") == score_columns(["superglue"])
    assert described("Columns of `downstream.csv`", "|---|---|---|") == list(DOWNSTREAM_COLUMNS)


@pytest.mark.parametrize("path", sorted((ROOT / "reports").glob("*/records.jsonl")), ids=lambda path: path.parent.name)
def test_every_field_of_the_committed_records(path):
    names = set(described("## A record", "|---|---|---|"))
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        assert set(json.loads(line)) - OF_REPORTS <= names


def test_every_field_of_a_record():
    from dataclasses import fields

    from ablate.run.record import Record

    assert sorted(described("## A record", "|---|---|---|")) == sorted(
        {field.name for field in fields(Record)} - {"unknown", "order"}
    )
