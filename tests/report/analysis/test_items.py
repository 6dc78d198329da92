"""Values of items: gathered from the files of outcomes, kept in items.jsonl, and read as what a stranger wrote."""

import dataclasses
import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.report import build
from ablate.report.analysis import items_jsonl, records_file
from ablate.report.analysis.gathering import collect
from ablate.report.analysis.items_jsonl import ItemValues
from ablate.run import outcomes
from ablate.run.outcomes import Item, Outcomes
from tests.report.with_items import ITEMS, SEEDS, ScoredMaker


@pytest.fixture
def maker(tmp_path):
    maker = ScoredMaker(tmp_path)
    maker.row("RMS Norm", {"piqa": 0.1})
    maker.write_sweep()
    return maker


def gathered(maker):
    return collect(maker.name, maker.runs, maker.sweeps)


def report(maker):
    return build.build(maker.name, maker.runs, maker.reports, maker.sweeps).path.parent


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def left_out(folder):
    return {problem["path"]: problem["reason"] for problem in records_file.read(folder).sweep.get("skipped", [])}


def test_every_item_is_there(maker):
    found = gathered(maker)
    assert len(found.items) == 2 * SEEDS * 4 and found.sweep["skipped"] == []
    values = found.items["RMS Norm", 1, "piqa"]
    kept = outcomes.read(maker.evaluation("RMS Norm", 1) / "piqa.jsonl").values("piqa")
    assert list(values.values) == list(kept.values()) and len(values.values) == ITEMS
    assert values.ids == found.items[maker.baseline, 0, "boolq_margin"].ids


def test_values_stand_in_the_order_of_ids():
    assert list(ItemValues.of({"b": 2.0, 10: 1.0, "a": 3.0, 9: 0.0}).values) == [0.0, 1.0, 3.0, 2.0]
    assert ItemValues.of({1: 5.0, 0: 4.0}) == ItemValues.of({0: 4.0, 1: 5.0}) != ItemValues.of({0: 4.0, 2: 5.0})
    assert ItemValues.of({0: 1 / 3, 1: -0.0, 2: 123456.0}).values.tolist() == [0.3333, 0.0, 123500.0]


def test_lines_are_short():
    items = {
        ("A row", 0, "piqa"): ItemValues.of({0: 0.0, 1: 100.0, 2: 100.0}),
        ("A row", 0, "piqa_margin"): ItemValues.of({0: -0.051234, 1: 3.0, 2: 2e-9}),
        ("A row", 1, "exact"): ItemValues.of({0: 0.0, 1: 1.0}),
    }
    lines = items_jsonl.text_of(items).splitlines()
    ids = items["A row", 0, "piqa"].ids
    assert lines[0] == f'{{"ids":"{ids}","one":100.0,"row":"A row","score":"piqa","seed":0,"values":"011"}}'
    assert lines[1] == f'{{"ids":"{ids}","row":"A row","score":"piqa_margin","seed":0,"values":[-0.05123,3,2e-09]}}'
    assert '"one"' not in lines[2] and lines[2].endswith('"values":"01"}')


numbers = st.floats(-1e12, 1e12, allow_subnormal=False)  # some libraries set the processor to flush them
names = st.text(st.characters(categories=["L", "P", "Zs"]), min_size=1)


@given(st.dictionaries(st.tuples(names, st.integers(0, 2**40), names), st.lists(numbers, min_size=1), max_size=4))
def test_what_is_written_is_read(tmp_path_factory, found):
    items = {run: ItemValues.of(dict(enumerate(values))) for run, values in found.items()}
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    path.write_text(items_jsonl.text_of(items))
    assert items_jsonl.read(path) == (items, {})


GOOD = {"ids": "0123456789abcdef", "row": "A", "score": "piqa", "seed": 0, "values": "01"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"row"', "not JSON"),
        ("[]", "must be a mapping"),
        (GOOD | {"row": 3}, "row must be a string"),
        (GOOD | {"score": ""}, "score must be a string"),
        (GOOD | {"seed": True}, "seed must be a whole number"),
        (GOOD | {"seed": -1}, "seed must be a whole number"),
        (GOOD | {"ids": "0"}, "ids must be 16 hex digits"),
        (GOOD | {"ids": None}, "ids must be a string"),
        (GOOD | {"values": "012"}, "values must be a string of 0 and 1, or a list of numbers"),
        (GOOD | {"values": []}, "values must be"),
        (GOOD | {"values": [1, "2"]}, "values must be"),
        (GOOD | {"values": [True]}, "values must be"),
        (GOOD | {"values": [1e300]}, "values must be"),
        (GOOD | {"one": "x"}, "values must be"),
        ('{"values": [NaN]}', "NaN is no number"),
        (GOOD | {"values": "10"}, "piqa of A, seed 0, is there twice, and differs; the first is taken"),
    ],
)
def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path, line, problem):
    path = tmp_path / "items.jsonl"
    other = GOOD | {"score": "boolq", "values": [0.5, 1]}
    lines = [json.dumps(GOOD), line if isinstance(line, str) else json.dumps(line), json.dumps(other)]
    path.write_text("\n".join(lines) + "\n")
    found, damaged = items_jsonl.read(path)
    assert found.keys() == {("A", 0, "piqa"), ("A", 0, "boolq")} and list(damaged) == [2] and problem in damaged[2]


def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "items.jsonl"
    assert items_jsonl.read(path) == ({}, {})
    path.write_bytes(b"\xff\xfe")
    assert "cannot be read" in items_jsonl.read(path)[1][1]
    path.unlink()
    path.mkdir()
    assert items_jsonl.read(path) == ({}, {1: "the file cannot be read (it is no file)"})


def test_a_report_is_rebuilt_from_its_files_byte_for_byte(maker, tmp_path):
    folder = report(maker)
    before = content(folder)
    assert "items.jsonl" in before
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(maker.runs)
    build.rebuild(tmp_path / "elsewhere")
    assert content(tmp_path / "elsewhere") == before
    report(maker)
    assert content(folder) == before
    records_file.write(records_file.read(folder), tmp_path / "again")
    assert (tmp_path / "again" / "items.jsonl").read_bytes() == before["items.jsonl"]


def test_no_text_of_a_task_and_no_file_without_items(maker):
    folder = report(maker)
    line = json.loads((folder / "items.jsonl").read_text().splitlines()[0])
    assert set(line) <= {"ids", "one", "row", "score", "seed", "values"}
    for path in maker.runs.rglob("*.jsonl"):
        path.unlink()
    shutil.rmtree(folder)
    assert "items.jsonl" not in content(report(maker))


def test_items_that_are_no_longer_there_leave_no_file(maker, tmp_path):
    found = gathered(maker)
    records_file.write(found, tmp_path / "report")
    assert (tmp_path / "report" / "items.jsonl").exists()
    records_file.write(dataclasses.replace(found, items={}), tmp_path / "report")
    assert not (tmp_path / "report" / "items.jsonl").exists()


def test_runs_without_a_folder_keep_their_items(maker):
    folder = report(maker)
    before = content(folder)
    shutil.rmtree(maker.evaluation("RMS Norm", 0).parents[2])
    report(maker)
    assert content(folder) == before


def test_files_that_were_read_once_need_not_be_there_again(maker):
    folder = report(maker)
    before = content(folder)
    for path in maker.runs.rglob("*.jsonl"):
        path.unlink()
    report(maker)
    assert content(folder) == before and not left_out(folder)


def test_items_of_a_score_that_was_taken_again_are_read_again(maker):
    folder = report(maker)
    maker.scored_run("RMS Norm", 0, {"piqa": -0.3}, ["norm=RMS-Norm"])
    again = records_file.read(report(maker))
    assert again.items["RMS Norm", 0, "piqa"] == gathered(maker).items["RMS Norm", 0, "piqa"]
    assert len(again.items) == 2 * SEEDS * 4 and folder == maker.reports / maker.name


def damage(path, kind):
    """Damage a file of outcomes, as a disk or a person would."""
    lines = path.read_text().splitlines(keepends=True)
    if kind == "missing":
        path.unlink()
    elif kind == "cut":
        path.write_text("".join(lines[:-3]))
    elif kind == "another":
        file = outcomes.read(path)
        items = tuple(Item(item.id, item.right, (), {"piqa": 50.0}) for item in file.items)
        outcomes.write(path.parent, Outcomes(file.task, file.key, items, file.scores))
    elif kind == "text":
        path.write_bytes(b"\x00\xff")
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "is missing; piqa, piqa_margin of this run cannot be paired by item"),
        ("cut", "cannot be used: its lines are not those that its first line has the hash of; piqa, piqa_margin"),
        ("another", "cannot be used: it is not the file that the record has the hash of"),
        ("text", "cannot be used"),
        ("folder", "cannot be used: it is no file"),
    ],
)
def test_a_file_of_outcomes_that_cannot_be_used_is_named(maker, kind, reason):
    path = maker.evaluation("RMS Norm", 2) / "piqa.jsonl"
    damage(path, kind)
    found = gathered(maker)
    (problem,) = found.sweep["skipped"]
    assert problem["path"] == path.relative_to(maker.runs / maker.name).as_posix() and reason in problem["reason"]
    assert ("RMS Norm", 2, "piqa") not in found.items and ("RMS Norm", 2, "boolq") in found.items
    assert len(found.records) == 2 * SEEDS


def test_items_that_do_not_come_to_the_score_are_named(maker):
    path = maker.evaluation("RMS Norm", 2).parents[1] / "record.json"
    record = json.loads(path.read_text())
    record["scores"]["piqa"]["value"] = record["downstream"]["piqa"] = 99.0
    path.write_text(json.dumps(record))
    found = gathered(maker)
    (problem,) = found.sweep["skipped"]
    assert problem["reason"] == "its items do not come to what the record says of piqa"
    assert ("RMS Norm", 2, "piqa") not in found.items and ("RMS Norm", 2, "piqa_margin") in found.items


@pytest.mark.parametrize("name", ["../../../../secret.jsonl", "/etc/passwd", "", 3, None, ["piqa.jsonl"]])
def test_a_source_names_a_file_beside_its_run_only(maker, name):
    path = maker.evaluation("RMS Norm", 2).parents[1] / "record.json"
    record = json.loads(path.read_text())
    record["scores"]["piqa"]["source"] |= {"outcomes": name, "outcomes_sha256": [1]}
    path.write_text(json.dumps(record))
    found = gathered(maker)
    assert found.sweep["skipped"] == [] and ("RMS Norm", 2, "piqa") not in found.items


@pytest.mark.parametrize("has_runs", [True, False])
def test_a_damaged_line_of_items_jsonl_is_named_and_loses_nothing_else(maker, has_runs):
    folder = report(maker)
    lines = (folder / "items.jsonl").read_text().splitlines()
    (folder / "items.jsonl").write_text("\n".join([*lines[:3], lines[3][:30], *lines[4:]]) + "\n")
    build.rebuild(folder)
    assert left_out(folder) == {"items.jsonl, line 4": "not JSON"}
    assert "items.jsonl, line 4" in (folder / "report.md").read_text()
    if not has_runs:
        shutil.rmtree(maker.runs)
    report(maker)
    assert left_out(folder) == {"items.jsonl, line 4": "not JSON"}
    assert (folder / "items.jsonl.damaged-1").exists()
    again = (folder / "items.jsonl").read_text().splitlines()
    assert again == (lines if has_runs else [*lines[:3], *lines[4:]])
