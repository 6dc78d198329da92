"""Reports of made-up sweeps held to stored ones, file by file: a false alarm, troubles, runs that differ in kind."""

import pytest

from tests.report.stored_reports import FILES, FOLDER, SWEEPS, made


@pytest.mark.parametrize("name", SWEEPS)
def test_a_made_up_sweep_has_the_stored_report(name, tmp_path):
    report = made(name, tmp_path)
    for file in FILES:
        assert (report / file).read_text() == (FOLDER / name / file).read_text(), file
