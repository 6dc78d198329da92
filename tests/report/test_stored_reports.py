"""Reports of made-up sweeps held to stored ones, file by file: a false alarm, troubles, runs that differ in kind."""

import pytest

from tests.report.stored_reports import FOLDER, OF_SCORES, SWEEPS, made


@pytest.mark.parametrize("name", SWEEPS)
def test_a_made_up_sweep_has_the_stored_report(name, tmp_path):
    report = made(name, tmp_path)
    stored = {path.name: path.read_text() for path in (FOLDER / name).iterdir()}
    for file, text in stored.items():
        assert (report / file).read_text() == text, file
    assert all((report / file).exists() == (file in stored) for file in OF_SCORES)
