"""The committed reports, made again from their records: every file comes out as it is committed."""

from pathlib import Path

import pytest

from ablate.report import build

REPORTS = Path(__file__).parents[2] / "reports"
NAMES = sorted(path.parent.name for path in REPORTS.glob("*/records.jsonl"))


def test_there_are_committed_reports():
    assert {"activations-c4", "axes", "axes-c4", "layers-c4", "narang2021-nano"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_report_is_made_again_byte_for_byte(name, tmp_path):
    committed = {path.name: path.read_bytes() for path in (REPORTS / name).iterdir()}
    for file in ("records.jsonl", "curves.csv"):
        (tmp_path / file).write_bytes(committed[file])
    build.rebuild(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(made) == sorted(committed)
    assert [file for file in committed if made[file] != committed[file]] == []
