"""A sweep with contexts and rungs, driven: where its runs lie, what it says, that it goes on where it was."""

import json
import re

import pytest

from ablate.errors import UserError
from ablate.run.folder import RunFolder, run_folders
from ablate.sweep import status
from ablate.sweep.describe import describe
from tests.run.sealed import sealed
from tests.sweep.conftest import SWEEP

pytestmark = pytest.mark.timeout(120)

TEXT = (
    SWEEP
    + """
base: [trainer.steps=100]
contexts:
  spans: []
  causal: [topology=causal_decoder]
rungs: [2]
"""
)
PLACES = {
    "try/spans": 4, "try/spans-x2": 2, "try/causal": 4, "try/causal-x2": 2,
}  # fmt: skip


def folders(place):
    return {name: len([*run_folders(place.runs, name)]) for name in PLACES}


def test_each_context_and_rung_has_a_folder_and_all_go_on(place):
    place.write(TEXT)
    code, said = place.drive()
    assert code == 0 and folders(place) == PLACES
    assert len([*run_folders(place.runs)]) == 12 and not [*run_folders(place.runs, "try")]
    record = json.loads((next(run_folders(place.runs, "try/causal")) / "record.json").read_text())
    assert (record["sweep"], record["row"]) == ("try/causal", "Base")
    assert "try/spans: 4 done" in said and "try/causal-x2: 2 done" in said
    code, said = place.drive()
    assert code == 0 and "[1/" not in said


def test_steps_of_a_rung(place):
    place.write(TEXT)
    place.drive()
    steps = {name: RunFolder(next(run_folders(place.runs, name))).read_config()["trainer"]["steps"] for name in PLACES}
    assert steps == {"try/spans": 100, "try/spans-x2": 200, "try/causal": 100, "try/causal-x2": 200}


def test_rows_that_are_named_run_in_every_context_and_rungs_with_the_baseline_alone(place):
    place.write(TEXT)
    place.drive(only="Rms")
    assert folders(place) == {"try/spans": 1, "try/spans-x2": 0, "try/causal": 1, "try/causal-x2": 0}
    place.drive(only="B*")
    assert folders(place) == {"try/spans": 3, "try/spans-x2": 2, "try/causal": 3, "try/causal-x2": 2}


def test_plan_and_status_tell_of_each_and_of_all(place):
    place.write(TEXT)
    said = describe("try", place.overrides)
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("try")] == [*PLACES, "try"]
    assert "the baseline with 2 times the steps, 2 runs: 0 done, 2 to run" in said
    assert said.endswith("try: 4 tables and rungs, 12 runs: 0 done, 12 to run, time not known")
    place.drive(only="Rms")
    assert describe("try", place.overrides).count("1 done, 3 to run") == 2
    said = status.describe("try", place.overrides)
    assert said.endswith("try: 4 tables and rungs, 12 runs: 2 done, 10 missing")


def test_a_context_alone(place):
    place.write(TEXT)
    assert describe("try/causal", place.overrides).startswith("try/causal: Which?\n3 rows, 4 runs")
    assert status.describe("try/causal-x2", place.overrides).startswith("try/causal-x2: 2 runs: 2 missing")


def test_what_is_wrong_in_any_context_is_said_before_anything_begins(place):
    place.write(TEXT.replace("[topology=causal_decoder]", "[topology=casual]"))
    with pytest.raises(UserError, match="causal_decoder"):
        place.drive()
    assert not place.runs.exists()


def test_a_failed_run_in_one_context_leaves_the_others(place):
    place.write(TEXT)
    place.behave(Rms="exit")
    code, _ = place.drive()
    assert code == 1 and folders(place)["try/causal-x2"] == 2


def test_plan_says_what_a_detectable_difference_is_worth(place):
    place.write(TEXT.replace("baseline: 2, rows: 1", "baseline: 3, rows: 3"))
    place.drive()
    for path in place.runs.glob("try/spans*/*/seed-*/record.json"):
        record = json.loads(path.read_text())
        record["loss"]["final"] = 5.0 + 0.01 * record["seed"] - 0.3 * path.parts[-4].endswith("-x2")
        record["loss"]["final"] += 0.002 * (record["row"] == "Rms") * (record["seed"] == 1)
        path.write_text(sealed(record))
    said = describe("try/spans", place.overrides)
    (line,) = [line for line in said.splitlines() if line.startswith("detects")]
    found = re.search(r"a difference of (0\.\d+) in the final loss, worth (\d\.\d+) times the tokens, four", line)
    assert float(found[2]) == pytest.approx(2 ** (float(found[1]) / 0.3), rel=0.02)
    assert "worth" not in describe("try/causal", place.overrides)  # whose loss does not fall with more steps


def test_plan_names_rows_that_bring_an_optimizer_along_and_have_no_control(place):
    place.write(
        SWEEP.replace("Gelu: [activation=gelu]", "Adam: [optimizer=adam]\n  Both: [norm=rmsnorm, optimizer=adam]")
    )
    said = describe("try", place.overrides)
    assert "try: 'Both' brings optimizer=adam along, and has no control: against: a row that has it alone" in said
    assert said.count("brings") == 1
    place.write(
        SWEEP.replace(
            "Gelu: [activation=gelu]",
            "Adam: [optimizer=adam]\n  Both: {against: Adam, overrides: [norm=rmsnorm, optimizer=adam]}",
        )
    )
    assert "brings" not in describe("try", place.overrides)


def test_a_row_that_cannot_stand_in_a_context_is_left_out_there_by_name(place):
    place.write(TEXT.replace("Rms: [norm=rmsnorm]", "Rms: [norm=rmsnorm]\n  Odd: [norm=batchnorm]"))
    place.behave(unfit={"CausalDecoder": {"Odd": "norm=batchnorm sees all tokens"}})
    code, said = place.drive(report=True)
    line = "try/causal: left out: 'Odd': norm=batchnorm sees all tokens"
    assert code == 0 and line in said and "try/spans: left out" not in said
    assert folders(place) == {**PLACES, "try/spans": 5}
    assert line in describe("try", place.overrides) and line in status.describe("try", place.overrides)
    assert status.describe("try", place.overrides).endswith("try: 4 tables and rungs, 13 runs: 13 done")
    report = (place.folder / "reports" / "try" / "causal" / "report.md").read_text()
    assert "**Odd** cannot stand in this context, and is left out: norm=batchnorm sees all tokens" in report
    assert "Odd" in (place.folder / "reports" / "try" / "spans" / "results.csv").read_text()
    place.behave()  # the parts have been changed so that they fit
    code, said = place.drive(only="Odd")
    assert code == 0 and "left out" not in said and folders(place)["try/causal"] == 5
    assert "left out" not in describe("try", place.overrides)


def test_a_baseline_that_cannot_stand_in_a_context_stops_the_sweep(place):
    place.write(TEXT)
    place.behave(unfit={"CausalDecoder": {"Base": "there is no such thing"}})
    with pytest.raises(UserError, match="there is no such thing"):
        place.drive()


def test_without_contexts_a_row_that_cannot_stand_stops_the_sweep(place):
    place.write(SWEEP)
    place.behave(unfit={"EncoderDecoder": {"Rms": "it does not fit"}})
    with pytest.raises(UserError, match="Rms: it does not fit"):
        place.drive()


def test_sizes_train_for_so_many_tokens_a_parameter(place):
    sizes = "scale: {tokens_per_parameter: 0.5, sizes: {small: [shape.n_layers=1], large: [shape.n_layers=2]}}"
    place.write(SWEEP + sizes)
    code, _ = place.drive(report=True)
    steps = {}
    for size in ("small", "large"):
        config = RunFolder(next(run_folders(place.runs, f"try/{size}"))).read_config()
        steps[size] = config["trainer"]["steps"]
        header = json.loads((place.folder / "reports" / "try" / size / "records.jsonl").read_text().splitlines()[0])
        assert header["scale"] == {"sizes": ["small", "large"], "tokens_per_parameter": 0.5}
        assert f"trainer.steps={steps[size]}" in header["base"]
    assert code == 0 and steps["small"] < steps["large"]
