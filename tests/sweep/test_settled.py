"""What a sweep settles once, on one machine, is the same for whoever asks about it on another."""

import json
import shutil

import pytest
import yaml

from ablate import machine
from ablate.config import identity
from ablate.errors import UserError
from ablate.report.build import build
from ablate.run.folder import run_path
from ablate.sweep import describe, devices, status
from tests.run.sealed import sealed

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def has(monkeypatch):
    """`has(cores)` of this machine."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def set_to(cores):
        monkeypatch.setattr(machine, "cores", lambda: cores)
        monkeypatch.setattr(devices, "cores", lambda: cores)

    set_to(4)
    return set_to


def threads(place):
    return {
        yaml.safe_load(path.read_text())["trainer"]["threads"] for path in place.runs.glob("try/*/seed-?/config.yaml")
    }


def report(place):
    return build("try", place.runs, place.folder / "reports", place.folder / "sweeps")


def said(place):
    """What plan and status say."""
    return describe.describe("try", place.overrides), status.describe("try", place.overrides)


def test_a_sweep_is_done_on_a_machine_with_other_cores(place, has):
    assert place.drive(jobs=2)[0] == 0 and threads(place) == {2}
    has(64)
    for _ in range(2):  # from the folders, then from the records of the report
        plan, state = said(place)
        assert "4 done" in plan and "4 done" in state
        assert place.drive()[0] == place.drive(jobs=1)[0] == 0
        assert len(place.trace("start")) == 4 and not report(place).problems
        shutil.rmtree(place.runs, ignore_errors=True)


def test_what_is_added_later_is_as_what_is_there(place, has):
    assert place.drive(jobs=1, only="Base")[0] == 0 and threads(place) == {4}
    has(2)
    assert place.drive()[0] == 0 and threads(place) == {4}


def test_records_that_are_not_counted_settle_nothing(place, has):
    assert place.drive(jobs=1, report=True)[0] == 0 and threads(place) == {4}
    shutil.rmtree(place.runs)
    assert place.drive(stored=False)[0] == 0 and threads(place) == {1}


def test_a_number_is_kept_and_asked_for_by_none_later(place, has):
    assert place.drive("trainer.threads=3")[0] == 0 and threads(place) == {3}
    assert place.drive()[0] == 0 and len(place.trace("start")) == 4
    with pytest.raises(UserError, match="trainer.threads was 3, is 2"):
        place.drive("trainer.threads=2")


def test_a_folder_with_runs_of_two_values_is_one_line(place, has):
    place.drive()
    folder = run_path(place.runs, "try", "Rms", 0)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"]["threads"] = 2
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((folder / "record.json").read_text())
    del record["checksum"]
    (folder / "record.json").write_text(sealed(record | {"identity": identity(config, record["data"]["sha256"])}))
    line = (
        "try: its runs were made with different values of trainer.threads: trainer.threads=1 (3 runs), "
        "trainer.threads=2 (1 run); ask for one"
    )
    with pytest.raises(UserError) as refused:
        place.drive()
    assert str(refused.value).startswith(line) and "\n" not in str(refused.value)
    for text in said(place):
        assert text.count(line) == 1 and "already contains" not in text
    assert "trainer.threads was 2, is 1" in report(place).problems[0]
    assert place.drive("trainer.threads=1", replace=True)[0] == 0 and threads(place) == {1}
