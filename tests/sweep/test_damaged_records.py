"""A sweep counts as done what its report has, whatever became of a record; asking again repairs what can be."""

import json
import re
import shutil

import pytest

from ablate.errors import UserError
from ablate.report.analysis.gathering import collect
from ablate.run.record import checksum
from ablate.sweep import status
from ablate.sweep.describe import describe
from tests.run.sealed import sealed
from tests.sweep.conftest import SWEEP

pytestmark = pytest.mark.timeout(60)


def changed(**changes):
    return lambda content: sealed(content | changes)


def loss(**changes):
    return lambda content: sealed(content | {"loss": content["loss"] | changes})


def raw(value):
    """A final loss that is written as it is given."""
    return lambda content: re.sub(r'"final": [0-9.]+', f'"final": {value}', json.dumps(content | {"checksum": None}))


DAMAGED = {
    "empty": lambda content: "",
    "cut": lambda content: json.dumps(content)[:200],
    "a list": lambda content: "[]",
    "nested": lambda content: '{"schema": ' * 400 + "1" + "}" * 400,
    "very deep": lambda content: "[" * 100_000,
    "half of a pair": changed(reason="\ud800"),
    "binary": lambda content: "\0\1\2",
    "a lower loss": lambda content: json.dumps(content | {"loss": content["loss"] | {"final": 4.5}}),
    "negative": loss(final=-5.0),
    "1e308": loss(final=1e308),
    "1e999": raw("1e999"),
    "NaN": raw("NaN"),
    "infinity": raw("-Infinity"),
    "true": loss(final=True),
    "30 digits": raw("1" * 30),
    "400 digits": raw("1" * 400),
    "no final loss": loss(final=None),
    "no loss": changed(loss=None),
    "a list of losses": changed(loss=[]),
    "missing steps": lambda content: sealed(content | {"step": 7, "loss": content["loss"] | {"final_step": 10}}),
    "a seed of 29 digits": changed(seed=10**29),
    "texts for scores": changed(scores={"x": {"value": "1", "unit": "", "higher_is_better": True}}),
    "a key twice": lambda content: json.dumps(content)[:-1] + ', "seed": 0}',
    "against metrics.csv": loss(final=4.0),
}
ANOTHERS = {
    "a newer schema": changed(schema=99),
    "an unknown status": changed(status="paused"),
    "another sweep": changed(sweep="other"),
    "another seed": changed(seed=1),
}


def counted(place):
    """How many runs the report has as done, and why it leaves out the others."""
    found = collect("try", place.runs, place.folder / "sweeps")
    done = sum(record["status"] == "done" for record in found.records)
    return done, [skipped["reason"] for skipped in found.sweep["skipped"]]


def planned(place, *extra):
    return describe("try", [*place.overrides, *extra])


def damage(place, how):
    (path,) = place.runs.glob("try/rms-*/seed-0/record.json")
    content = json.loads(path.read_text())
    final = content["loss"]["final"]
    (path.parent / "metrics.csv").write_text(
        f"step,time,loss,kind\n5,1.0,6.0,validation\n10,1.0,{final!r},validation\n"
    )
    whole = content | {"step": 10, "loss": content["loss"] | {"final_step": 10, "early_step": 5}}
    whole = json.loads(sealed(whole))
    path.write_text(sealed(whole))
    assert counted(place) == (4, [])
    path.write_text(how(whole))
    return path


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_record_counts_nowhere_and_is_made_again(place, how):
    place.drive()
    path = damage(place, DAMAGED[how])
    damaged = path.read_text()
    done, (reason,) = counted(place)
    assert done == 3 and reason.startswith("record.json ") and "\n" not in reason and len(reason) < 250
    said = status.describe("try", place.overrides)
    assert "4 runs: 3 done, 1 failed" in said and f"Rms, seed 0: failed: {reason}" in said
    code, said = place.drive()
    assert code == 0 and "3 of 4 runs already finished" in said and "4 done" in said
    assert counted(place) == (4, []) and place.trace("done").count("Rms 0") == 2
    assert path.parent.with_name("seed-0.replaced-1").joinpath("record.json").read_text() == damaged
    assert place.drive()[1].count("4 of 4 runs already finished") == 1


def test_a_run_without_its_record_counts_nowhere_and_is_made_again(place):
    place.drive()
    path = damage(place, json.dumps)
    path.unlink()
    done, (reason,) = counted(place)
    assert (done, reason) == (3, "record.json is missing beside metrics.csv")
    assert f"Rms, seed 0: failed: {reason}" in status.describe("try", place.overrides)
    assert "4 runs (2 seeds of the baseline, 1 of each other row): 3 done, 1 to run" in planned(place)
    assert place.drive()[0] == 0 and counted(place) == (4, [])
    assert path.parent.with_name("seed-0.replaced-1").joinpath("metrics.csv").exists()


@pytest.mark.parametrize("how", [DAMAGED["cut"], ANOTHERS["an unknown status"]])
def test_an_older_report_does_not_vouch_for_a_damaged_record(place, how):
    place.drive()
    older = collect("try", place.runs, place.folder / "sweeps")
    path = damage(place, how)
    found = collect("try", place.runs, place.folder / "sweeps", older)
    assert len(found.records) == 3 and len(found.sweep["skipped"]) == 1
    shutil.rmtree(path.parent)
    assert len(collect("try", place.runs, place.folder / "sweeps", older).records) == 4  # as of a fresh clone


@pytest.mark.parametrize("how", ANOTHERS)
def test_the_record_of_another_counts_nowhere_and_is_left_alone(place, how):
    place.drive()
    path = damage(place, ANOTHERS[how])
    before = path.read_text()
    done, (reason,) = counted(place)
    code, said = place.drive()
    assert done == 3 and code == 1 and f"FAILED   Rms · seed 0: {reason}" in said and "3 done, 1 failed" in said
    code, said = place.drive(retry="failed")
    assert code == 1 and path.read_text() == before and counted(place)[0] == 3
    assert place.drive(replace=True)[0] == 0 and counted(place) == (4, [])
    assert path.parent.with_name("seed-0.replaced-1").joinpath("record.json").read_text() == before


@pytest.mark.parametrize("how", ["cut", "a lower loss", "against metrics.csv"])
def test_replace_moves_damaged_records_aside(place, how):
    place.drive()
    path = damage(place, DAMAGED[how])
    code, said = place.drive(replace=True)
    assert code == 0 and "record.json" in said and "moved to seed-0.replaced-1" in said
    assert counted(place) == (4, []) and path.exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[norm=rmsnorm]", "[norm=rmsnorm, dropout=0.1]"),
        ("[norm=rmsnorm, dropout=0.1]", "[norm=rmsnorm]"),
        ("[norm=rmsnorm]", "[norm=scalenorm]"),
    ],
)
def test_runs_under_a_rows_new_definition_count_nowhere(place, before, after):
    place.write(SWEEP.replace("[norm=rmsnorm]", before))
    place.drive()
    assert counted(place) == (4, [])
    place.write(SWEEP.replace("[norm=rmsnorm]", after))
    done, (reason,) = counted(place)
    assert done == 3 and reason.startswith("made with a different configuration: ")
    changes = reason.partition(": ")[2]
    said = status.describe("try", place.overrides)
    assert "3 done, 1 different" in said and f"Rms, seed 0: different: {changes}" in said
    said = planned(place)
    assert "3 done, 1 to run" in said and re.search(r"^Rms +0/1", said, re.M)
    assert f"try: 'Rms' already contains a run with a different configuration: {changes}; replace=true moves" in said
    with pytest.raises(UserError, match="already contains a run with a different configuration") as caught:
        place.drive()
    assert changes in str(caught.value)
    assert place.drive(replace=True)[0] == 0 and counted(place) == (4, [])


def test_what_is_written_in_another_way_is_the_same_run(place):
    place.write(SWEEP.replace("[norm=rmsnorm]", "[norm=rmsnorm, dropout=0.10]"))
    place.drive()
    place.write(SWEEP.replace("[norm=rmsnorm]", "[dropout=0.1, norm=rmsnorm]"))
    assert counted(place) == (4, []) and place.drive()[0] == 0


def test_an_override_of_the_command_line_belongs_to_the_run(place):
    place.drive("dropout=0.1")
    assert counted(place) == (4, []) and "4 runs: 4 done" in status.describe("try", place.overrides)
    assert "4 done, 0 to run" in planned(place, "dropout=0.1")
    said = planned(place)  # as the sweep without it, which refuses these runs
    assert "0 done, 4 to run" in said and "not measured; ablate plan try --measure" in said
    assert "'Rms' already contains a run with a different configuration: dropout was 0.1, is 0.0; " in said
    with pytest.raises(UserError, match="dropout was 0.1, is 0.0"):
        place.drive()


def test_a_run_of_an_older_config_schema_is_not_shown_as_done(place):
    place.drive()
    (path,) = place.runs.glob("try/rms-*/seed-0/record.json")
    path.write_text(sealed(json.loads(path.read_text()) | {"identity": "0" * 16, "identity_schema": 1}))
    said = status.describe("try", place.overrides)
    assert "3 done, 1 different" in said and "made with an older config schema" in said
    with pytest.raises(UserError, match="made with an older config schema"):
        place.drive()


def test_the_status_of_runs_beside_any_sweep(place):
    place.drive()
    (place.runs / "try").rename(place.runs / "adhoc")
    for path in place.runs.glob("adhoc/*/seed-*/record.json"):
        path.write_text(sealed(json.loads(path.read_text()) | {"sweep": "adhoc"}))
    said = status.describe("adhoc", place.overrides)
    assert said.startswith("adhoc: 4 runs: 4 done\n") and "Rms   5.003" in said
    path.write_text("{")
    assert "4 runs: 3 done, 1 failed" in status.describe("adhoc", place.overrides)
    with pytest.raises(UserError, match="nowhere"):
        status.describe("nowhere", place.overrides)


def test_a_checksum_is_of_all_but_itself(place):
    place.drive()
    for path in place.runs.glob("try/*/seed-*/record.json"):
        content = json.loads(path.read_text())
        assert content["checksum"] == checksum(content) and list(content)[-1] == "checksum"
