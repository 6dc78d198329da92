"""Runs whose folders are elsewhere count by the records that the sweep's report has of them."""

import dataclasses
import json
import shutil

import pytest

from ablate.run.record import Record
from ablate.sweep import describe, status

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def cloned(place):
    """A sweep of four runs with a report; the runs are not there any more."""
    assert place.drive(report=True)[0] == 0
    shutil.rmtree(place.runs)
    (place.folder / "trace").unlink()
    return place


def records_of(place):
    return place.folder / "reports" / "try" / "records.jsonl"


def change(place, change):
    """Replace each line by `change(line)`, which may return text."""
    head, *lines = records_of(place).read_text().splitlines()
    changed = [change(json.loads(line)) for line in lines]
    texts = [line if isinstance(line, str) else json.dumps(line) for line in changed]
    records_of(place).write_text("\n".join([head, *texts]) + "\n")


def test_a_run_with_a_stored_record_is_done(cloned):
    code, said = cloned.drive()
    assert code == 0, said
    assert cloned.trace("start") == []
    assert f"try: 4 of 4 runs already finished, 4 of them in {records_of(cloned)}" in said
    assert f"try: 4 done, 4 of them in {records_of(cloned)}, after" in said
    assert "stored=false trains those here, too" in said


def test_stored_records_can_be_left_uncounted(cloned):
    """The demonstration is trained where its committed report has every run; the new records replace the old."""
    code, said = cloned.drive(stored=False, report=True)
    assert code == 0 and len(cloned.trace("start")) == 4, said
    assert "of them in" not in said and "stored=false" not in said
    assert len(records_of(cloned).read_text().splitlines()) == 1 + 4
    assert cloned.drive(stored=False)[0] == 0 and len(cloned.trace("start")) == 4  # the new ones have folders


def test_a_study_goes_on_in_pieces(cloned):
    cloned.write((cloned.folder / "sweeps" / "try.yaml").read_text().replace("rows: 1", "rows: 2"))
    code, said = cloned.drive(report=True)
    assert code == 0, said
    assert sorted(cloned.trace("start")) == ["Gelu 1", "Rms 1"]
    assert "4 of 6 runs already finished, 4 of them in" in said
    assert len(records_of(cloned).read_text().splitlines()) == 1 + 6
    told = describe.describe("try", cloned.overrides)
    assert f"6 done, 4 of them in {records_of(cloned)}, 0 to run" in told
    assert "seed 1" in status.describe("try", cloned.overrides)
    assert status.describe("try", cloned.overrides).startswith(
        f"try: 6 runs: 6 done, 4 of them in {records_of(cloned)}\n"
    )


def damaged(line):
    return {**line, "seconds": 1.0}


def foreign(line):
    del line["checksum"]
    return Record.from_json({**line, "sweep": "other"}).with_checksum().to_json()


def unsigned(line):
    del line["checksum"]
    return line


def of_another_config(line):
    del line["checksum"]
    return Record.from_json({**line, "identity": "0" * 16}).with_checksum().to_json()


def cut(line):
    return json.dumps(line)[:50]


@pytest.mark.parametrize("fault", [damaged, foreign, unsigned, of_another_config, cut])
def test_a_line_that_cannot_be_trusted_is_not_believed(cloned, fault):
    change(cloned, lambda line: fault(line) if line["row"] == "Rms" else line)
    assert "3 done, 3 of them in" in describe.describe("try", cloned.overrides)
    assert "3 done, 1 missing, 3 of them in" in status.describe("try", cloned.overrides)
    before = records_of(cloned).read_text()
    code, said = cloned.drive(report=True)
    assert code == 0, said
    assert cloned.trace("start") == ["Rms 0"]
    assert ("records.jsonl, line 4: not counted" in said) == (fault in (damaged, cut))
    kept = [*records_of(cloned).parent.glob("records.jsonl.damaged-1")]
    assert [path.read_text() for path in kept] == ([before] if fault in (damaged, cut) else [])
    rows = [json.loads(line)["row"] for line in records_of(cloned).read_text().splitlines()[1:]]
    assert sorted(rows) == ["Base", "Base", "Gelu", "Rms"]


def test_what_was_asked_decides_not_the_label(cloned):
    code, said = cloned.drive("trainer.steps=7")
    assert code == 0, said
    assert len(cloned.trace("start")) == 4


def test_a_run_of_other_data_is_made_anew(cloned):
    def other(line):
        del line["checksum"]
        record = Record.from_json(line)
        from ablate.config import identity
        from ablate.config.composing import resolve, written
        from ablate.study.definition import load
        from ablate.study.paths import Paths
        from ablate.study.runs import overrides
        from ablate.study.settled import Settled

        sweep = load("try", cloned.folder / "sweeps")
        config = written(overrides(sweep, record.row, record.seed, cloned.overrides))
        config = resolve({**config, "seed": {**config["seed"], "base": record.seed}})
        config = Settled(sweep, Paths.of(cloned.overrides)).of(config)
        data = dataclasses.replace(record.data, sha256="b" * 64)
        return dataclasses.replace(record, data=data, identity=identity(config, "b" * 64)).with_checksum().to_json()

    change(cloned, lambda line: other(line) if line["row"] == "Rms" else line)
    assert "4 done, 4 of them" in describe.describe("try", cloned.overrides)  # it knows no text
    cloned.write((cloned.folder / "sweeps" / "try.yaml").read_text().replace("baseline: 2", "baseline: 3"))
    code, said = cloned.drive()
    assert code == 0, said
    assert sorted(cloned.trace("start")) == ["Base 2", "Rms 0"]
    assert "try: not counted: 1 run in" in said and "trained on different data" in said


def test_speeds_of_two_machines_are_not_mixed(cloned):
    cloned.write(
        (cloned.folder / "sweeps" / "try.yaml").read_text().replace("rows:\n", "rows:\n  Elu: [activation=elu]\n")
    )
    code, said = cloned.drive(timing=5)
    assert code == 0, said
    assert cloned.trace("start") == ["Elu 0"]
    assert cloned.trace("measure") == []
    assert f"not timed, the runs of some rows are only in {records_of(cloned)}" in said
