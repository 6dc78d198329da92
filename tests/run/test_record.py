"""The record: typed, and the same bytes on disk as it was read from."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from ablate.run.json_object import DamagedJSON
from ablate.run.record import Git, Loss, NewerRecord, Record, StepsPerSecond, checksum, is_loss
from ablate.run.score import Curve, Score

ROOT = Path(__file__).parents[2]
FEW = {"schema": 1, "sweep": "s", "row": "r", "seed": 0, "status": "running"}
DONE = {**FEW, "status": "done", "loss": {"early": 6.0, "final": 5.5}}


def committed():
    for path in sorted(ROOT.glob("reports/*/records.jsonl")):
        yield from path.read_text(encoding="utf-8").splitlines()[1:]


def test_every_committed_record_is_written_as_it_was_read():
    lines = list(committed())
    assert len(lines) > 300
    for line in lines:
        record = Record.from_json(json.loads(line))
        assert json.dumps(record.to_json(), separators=(",", ":")) == line
        assert set(record.unknown) == {"kind", "settings"} and record.loss.final == record.final_loss


@pytest.mark.parametrize("content", [FEW, DONE, {**DONE, "parameters": {}, "git": None, "versions": {}}])
def test_no_key_is_added_and_none_is_lost(content):
    content = {"new": [1, {"x": None}], **content, "order": 3, "unknown": 4, "loss": {"final": 5, "odd": 1, "early": 6}}
    record = Record.from_json(content)
    assert json.dumps(record.to_json()) == json.dumps(content)
    assert record.loss == Loss(final=5, early=6, unknown={"odd": 1})


def test_what_changes_keeps_its_place_and_what_is_new_comes_last():
    read = Record.from_json({**DONE, "odd": 1})
    changed = dataclasses.replace(read, status="failed", git=Git(sha="a", dirty=None))
    assert list(changed.to_json()) == [*FEW, "loss", "odd", "git"]
    assert changed.to_json()["status"] == "failed" and changed.to_json()["git"] == {"sha": "a", "dirty": None}


def test_a_new_record_has_every_key_that_has_no_other_meaning():
    content = Record.from_json(FEW).to_json() | Record(**FEW).to_json()
    assert content["finished"] is None and content["overrides"] == [] and content["downstream"] == {}
    assert "scores" not in content and "identity_schema" not in content
    assert list(Record(**FEW).to_json())[:6] == ["schema", "sweep", "row", "overrides", "command", "seed"]


def test_scores_are_read_and_written():
    score = Score(0.5, "accuracy", True, items=4, outcomes=(1.0, 0.0), curve=Curve("length", (1.0, 2.0), (0.5, 0.5)))
    record = Record(**FEW, scores={"copy": score})
    text = json.dumps(record.to_json())
    assert Record.from_json(json.loads(text)) == record and '"outcomes": [1.0, 0.0]' in text
    whole = text.replace("[1.0, 2.0]", "[1, 2.5]")  # steps, as their writer had them
    assert json.dumps(Record.from_json(json.loads(whole)).to_json()) == whole != text
    wrong = {
        "unit is missing": {"value": 1.0},
        "value must be finite, and is nan": {**score.to_json(), "value": math.nan},
        "outcomes must be finite, and is 1e[+]40": {**score.to_json(), "outcomes": [1e40]},
        "curve.ys must be finite, and is inf": {**score.to_json(), "curve": {"x": "a", "xs": [1], "ys": [math.inf]}},
        r"curve cannot be read .a curve has as many xs": {**score.to_json(), "curve": {"x": "a", "xs": [1], "ys": []}},
    }
    for problem, content in wrong.items():
        with pytest.raises(DamagedJSON, match=f"scores.copy.{problem}"):
            Record.from_json({**FEW, "scores": {"copy": content}})


def test_a_score_keeps_what_a_newer_version_wrote_in_its_order():
    content = {"unit": "accuracy", "new": {"a": 1}, "value": 0.5, "higher_is_better": True}
    assert json.dumps(Score.from_json(content).to_json()) == json.dumps(content)


def test_a_score_is_primary_where_nothing_else_is_said():
    primary, exploratory = Score(0.5, "accuracy", True), Score(0.5, "accuracy", True, exploratory=True)
    assert "exploratory" not in primary.to_json() and exploratory.to_json()["exploratory"] is True
    assert [Score.from_json(score.to_json()) for score in (primary, exploratory)] == [primary, exploratory]
    with pytest.raises(ValueError, match="exploratory must be true or false, and is 'yes'"):
        Score.from_json({**primary.to_json(), "exploratory": "yes"})


def test_values_given_as_json_are_checked():
    record = Record(**FEW).with_json(
        {"loss": {"final": 1.5}, "steps_per_second": StepsPerSecond(median=2.0), "step": 3}
    )
    assert (record.final_loss, record.exclusive_speed, record.step) == (1.5, None, 3)
    with pytest.raises(DamagedJSON, match="stp is unknown"):
        record.with_json({"stp": 3})


def test_a_curve_has_a_y_for_every_x():
    with pytest.raises(ValueError, match="as many xs as ys, not 2 and 1"):
        Curve("position", (1.0, 2.0), (0.5,))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"schema": 99}, "has schema 99; this version reads up to 1"),
        ({"schema": True}, "schema must be a whole number, and is True"),
        ({"seed": "0"}, "seed must be a whole number, and is '0'"),
        ({"row": None}, "row must be a string, and is None"),
        ({"status": "finished"}, "status must be one of running, done, .*, and is 'finished'"),
        ({"loss": {"final": "low"}}, "loss.final must be a number, and is 'low'"),
        ({"loss": None}, "says done, but has no final loss"),
        ({"loss": {"final": float("nan")}}, "loss.final must be from 0 to 1e[+]09, and is nan"),
        ({"loss": {"final": -5.0}}, "loss.final must be from 0 to 1e[+]09, and is -5.0"),
        ({"loss": {"final": 1e308}}, "loss.final must be from 0 to 1e[+]09, and is 1e[+]308"),
        ({"loss": {"final": True}}, "loss.final must be a number, and is True"),
        ({"loss": []}, "loss must be a mapping"),
        ({"step": 12, "loss": {"final": 5.0, "final_step": 40}}, "says done, but after 12 of 40 steps"),
        ({"seed": 10**29}, "seed must be from 0 to"),
        ({"seconds": -1}, "seconds must be from 0 to"),
        ({"downstream": {"x": 1e200}}, "downstream.x must be a finite number"),
        ({"checksum": "0" * 64}, "damaged: its checksum differs"),
        ({"versions": ["torch"]}, "versions must be a mapping"),
        ({"versions": {"torch": 2}}, "versions.torch must be a string, and is 2"),
        ({"overrides": "norm=rmsnorm"}, "overrides must be a list"),
        ({"overrides": [1]}, r"overrides\[0\] must be a string"),
        ({"git": {"dirty": 1}}, "git.dirty must be true or false, and is 1"),
    ],
)
def test_a_damaged_record_is_refused_by_its_key(changes, problem):
    with pytest.raises(DamagedJSON, match=f"^{problem}"):
        Record.from_json(DONE | changes)


@pytest.mark.parametrize("key", FEW)
def test_some_keys_are_required(key):
    with pytest.raises(DamagedJSON, match=f"^{key} is missing$"):
        Record.from_json({name: value for name, value in FEW.items() if name != key})


def test_a_loss_is_a_finite_number_from_zero():
    assert [is_loss(value) for value in (0.0, 5.5, 1e9)] == [True] * 3
    assert [is_loss(value) for value in (-1e-9, -0.5, 1.1e9, math.inf, math.nan)] == [False] * 5


def test_a_run_is_done_after_its_last_step():
    loss = {"early": 6.0, "final": 5.5, "final_step": 10}
    assert Record.from_json(DONE | {"step": 10, "loss": loss}).step == 10
    with pytest.raises(DamagedJSON, match="says done, but after 9 of 10 steps"):
        Record.from_json(DONE | {"step": 9, "loss": loss})


@pytest.mark.parametrize("changes", [{"schema": 2}, {"schema": 1.5}, {"status": "paused"}])
def test_a_newer_record_is_not_a_damaged_one(changes):
    with pytest.raises(NewerRecord):
        Record.from_json(DONE | changes)


def test_a_checksum_is_of_every_key_but_itself_in_any_order():
    whole = {**DONE, "seconds": 3.0, "reason": "x", "versions": {"python": "3.12", "torch": "2.9"}}
    sum_of_it = checksum(whole)
    assert sum_of_it == "547f3c1ad93a8d62c26824acf7355648f42e45511ccd3b9d61de334e2011c5b4"
    assert checksum(dict(reversed(whole.items())) | {"checksum": "0", "kind": "run", "settings": {}}) == sum_of_it
    for key, value in whole.items():
        assert checksum({**whole, key: f"{value}0"}) != sum_of_it
        assert checksum({name: value for name, value in whole.items() if name != key}) != sum_of_it


def test_a_checksum_is_the_same_in_every_version():
    """Of records that lie on disks: another way of writing the JSON would make every one of them damaged."""
    content = {"row": "µ ≤ 1", "loss": {"final": 4.5, "early": None}, "overrides": ["a=1", "b=2"], "checksum": "x"}
    assert checksum(content) == "d51768a47af7572e6591758931b61f5913cf55d02274821f948e1ae169e41bce"


def test_the_rounds_of_a_timing_pass_are_optional_and_bounded():
    speed = {"median": 2.0, "p25": None, "p75": None, "exclusive": 2.5}
    old = DONE | {"steps_per_second": speed}
    assert Record.from_json(old).to_json() == old and Record.from_json(old).speed_rounds == ()
    timing = {"began": "2026-01-01T00:00:00Z", "rounds": [2.4, 2.6], "other_load": [0.1, 0.0]}
    new = DONE | {"steps_per_second": {**speed, "timing": timing}}
    record = Record.from_json(new)
    assert record.speed_rounds == (2.4, 2.6) and record.to_json()["steps_per_second"]["timing"] == timing
    sealed = record.with_checksum().to_json()
    assert Record.from_json(json.loads(json.dumps(sealed))).speed_rounds == (2.4, 2.6)
    for changes, problem in (
        ({"rounds": [2.4, 0.0]}, "rounds must be above 0"),
        ({"other_load": [-1.0]}, "other_load must be 0 or more"),
        ({"rounds": ["fast"]}, "must be a number"),
    ):
        with pytest.raises(DamagedJSON, match=problem):
            Record.from_json(DONE | {"steps_per_second": {**speed, "timing": timing | changes}})
