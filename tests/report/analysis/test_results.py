"""What is gathered from run folders, and what is left out and named."""

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import UserError
from ablate.report import build
from ablate.report.analysis import curves_csv, records_file, results
from ablate.report.analysis.gathering import CURVE_POINTS, collect
from ablate.report.analysis.judge import judge
from ablate.report.analysis.records_file import read, write
from ablate.report.render.csv_tables import RESULT_COLUMNS
from ablate.report.render.provenance import Provenance
from ablate.run.score import COLUMNS
from tests.report.synthetic import SETTINGS, Maker


def test_no_score_may_have_the_name_of_a_column_or_of_a_curve(maker):
    of_runs = gathered(maker).frame().columns
    assert {*of_runs, *RESULT_COLUMNS, "train", "validation", "gradient_norm"} == COLUMNS


@pytest.fixture
def maker(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, final=5.0 + seed / 100)
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9 + seed / 100)
    return maker


def gathered(maker):
    return collect(maker.name, maker.runs, maker.sweeps)


def skipped(found):
    return {problem["path"]: problem["reason"] for problem in found.sweep["skipped"]}


def test_what_is_there(maker):
    found = gathered(maker)
    assert [(record["row"], record["seed"]) for record in found.records] == [
        *((maker.baseline, seed) for seed in range(3)),
        *(("RMS Norm", seed) for seed in range(3)),
    ]
    assert found.sweep["question"] == maker.question
    assert found.sweep["rows"][1] == {"row": "RMS Norm", "section": "norm", "overrides": ["norm=rmsnorm"], "seeds": 3}
    assert found.sweep["skipped"] == []
    assert found.records[0]["settings"]["objective"]["length"] == 64
    frame = found.frame()
    assert list(frame.final_loss) == pytest.approx([5.0, 5.01, 5.02, 4.9, 4.91, 4.92])
    assert set(frame.section) == {"baseline", "norm"}
    kinds = {kind for _, _, kind in found.curves}
    assert kinds == {"train", "validation", "gradient_norm"} and len(found.curves) == 18


def test_curves_belong_to_the_records(maker, tmp_path):
    write(gathered(maker), tmp_path)
    (tmp_path / records_file.CURVES).unlink()
    with pytest.raises(UserError, match=r"no curves\.csv in .*; it belongs next to records\.jsonl"):
        read(tmp_path)


def test_written_and_read_back(maker, tmp_path):
    found = gathered(maker)
    write(found, tmp_path / "a")
    again = read(tmp_path / "a")
    assert again.sweep == found.sweep and again.records == found.records
    assert again.curves.keys() == found.curves.keys()
    write(again, tmp_path / "b")
    for name in ("records.jsonl", "curves.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    for line in (tmp_path / "a" / "records.jsonl").read_text().splitlines():
        assert json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")) == line


def test_broken_and_foreign_records_are_named(maker):
    runs = maker.runs / maker.name
    path = maker.run("RMS Norm", 3, ["norm=rmsnorm"])
    (path / "record.json").write_text('{"schema": 1, "row": "RMS')
    maker.run("RMS Norm", 4, ["norm=rmsnorm"], schema=99)
    maker.run("RMS Norm", 5, ["norm=rmsnorm"], loss={"early": 6.0, "final": float("nan")})
    maker.run("RMS Norm", 6, ["norm=rmsnorm"], sweep="another")
    maker.run("RMS Norm", 7, ["norm=rmsnorm"], versions=["torch"])
    maker.run("RMS Norm", 8, ["norm=layernorm"])
    maker.run("Unasked", 0, [])
    other = maker.run("RMS Norm", 9, ["norm=rmsnorm"])
    (other / "record.json").write_text("[1, 2]")
    moved = maker.run("RMS Norm", 10, ["norm=rmsnorm"])
    moved.rename(moved.with_name("seed-10.replaced-1"))
    (runs / "a-file").write_text("not a folder")
    (runs / ".timing").mkdir()
    (maker.run("RMS Norm", 11, ["norm=rmsnorm"]) / "record.json").unlink()
    found = gathered(maker)
    assert len(found.records) == 6
    reasons = skipped(found)
    folder = path.parent.name
    assert set(reasons) == {
        *(f"{folder}/seed-{seed}" for seed in (*range(3, 10), 11)),
        "unasked-" + _digest("Unasked") + "/seed-0",
    }
    for seed, words in {
        3: "cannot be read",
        4: "schema 99",
        5: "NaN is no number",
        6: "another run",
        7: "versions",
        8: "norm=rmsnorm",
        9: "must be a mapping",
    }.items():
        assert words in reasons[f"{folder}/seed-{seed}"]


def _digest(label):
    import hashlib

    return hashlib.sha256(label.encode()).hexdigest()[:6]


def test_a_record_without_some_of_its_numbers(maker, tmp_path):
    maker.run("RMS Norm", 0, ["norm=rmsnorm"], final=4.9, mfu=None, steps_per_second=None, parameters={})
    found = gathered(maker)
    write(found, tmp_path / "out")
    record = read(tmp_path / "out").records[3]
    assert record["mfu"] is None
    assert math.isnan(results.number(record, "steps_per_second", "median"))


def test_a_missing_or_broken_config_only_costs_its_settings(maker):
    path = maker.run("RMS Norm", 0, ["norm=rmsnorm"])
    (path / "config.yaml").write_text("a: [1")
    (maker.run("RMS Norm", 1, ["norm=rmsnorm"]) / "config.yaml").unlink()
    assert [record["settings"] for record in gathered(maker).records[3:5]] == [{}, {}]


def test_curves_are_thinned_and_torn_lines_left_out(maker):
    for seed in range(3):
        maker.run(maker.baseline, seed, settings={"trainer": {"steps": 10_000}})
    path = maker.run("RMS Norm", 0, ["norm=rmsnorm"])
    lines = ["step,time,loss,learning_rate,grad_norm,kind,bits_per_byte"]
    lines += [f"{step},0.1,{1000 / step},0.01,1.0,train," for step in range(1, 10_001)]
    (path / "metrics.csv").write_text("\n".join(lines) + "\n10001,0.1,nan,,,train,\n10002,0.1,0.0")
    points = gathered(maker).curves["RMS Norm", 0, "train"]
    assert len(points) == CURVE_POINTS
    assert points[-1][0] == 10_000 and points[-1][1] == pytest.approx(0.101, abs=0.001)
    assert [step for step, _ in points] == sorted({step for step, _ in points})


def test_the_gradient_norm_of_each_of_the_first_steps_is_kept(maker, tmp_path):
    """Then thinned as losses are; a run of an older version has the thinned ones alone."""
    for seed in range(3):
        maker.run(maker.baseline, seed, settings={"trainer": {"steps": 960}})
    head = "step,time,loss,learning_rate,grad_norm,kind,bits_per_byte"
    train = [f"{step},0.1,5.0,0.01,{step / 10},train," for step in (1, *range(10, 961, 10))]
    first = [f"{step},0.1,5.0,0.01,{step / 10},first_steps," for step in range(1, 65)]
    (maker.run(maker.baseline, 0) / "metrics.csv").write_text("\n".join([head, *first, *train, "70,,,,nan,train"]))
    (maker.run(maker.baseline, 1) / "metrics.csv").write_text("\n".join([head, *train]))
    curves = gathered(maker).curves
    norms, older = (curves[maker.baseline, seed, "gradient_norm"] for seed in (0, 1))
    assert norms[:64] == [(step, step / 10) for step in range(1, 65)]
    assert norms[64:] == [point for point in older if point[0] > 64] and len(older) == CURVE_POINTS
    assert older[-1] == (960, pytest.approx(95.5))
    found = gathered(maker)
    write(found, tmp_path / "out")
    again = read(tmp_path / "out").curves[maker.baseline, 0, "gradient_norm"]
    assert [step for step, _ in again] == [step for step, _ in norms]


@pytest.mark.parametrize("every", [1, 10])
def test_a_run_that_stops_half_way_is_thinned_as_the_others_are(maker, every):
    """A copy of the baseline that diverges differs from it nowhere; nor does one that trains for longer."""
    head = "step,time,loss,learning_rate,grad_norm,kind,bits_per_byte"
    for label, last in (("RMS Norm", 840), (maker.baseline, 2000), ("GeLU", 5000)):
        overrides = {"RMS Norm": ["norm=rmsnorm"], "GeLU": ["activation=gelu"]}.get(label, [])
        path = maker.run(label, 0, overrides, settings={"trainer": {"steps": max(last, 2000)}})
        lines = [f"{step},0.1,{3 + 1000 / step},0.01,1.0,train," for step in range(every, last + 1, every)]
        (path / "metrics.csv").write_text("\n".join([head, *lines]) + "\n")
    found = gathered(maker).curves.items()
    curves = {label: dict(points) for (label, seed, kind), points in found if seed == 0 and kind == "train"}
    base = curves[maker.baseline]
    assert len(base) == CURVE_POINTS
    for label, points in curves.items():
        shared = points.keys() & base.keys()
        assert len(shared) >= (20 if label == "RMS Norm" else CURVE_POINTS), label
        assert all(points[step] == base[step] for step in shared), label


def test_runs_beside_any_sweep(tmp_path):
    maker = Maker(tmp_path, name="adhoc", baseline="baseline")
    maker.run("norm=rmsnorm", 0, ["norm=rmsnorm"])
    maker.run("norm=rmsnorm", 1, ["norm=rmsnorm", "seed=1", "logger=csv"])
    maker.run("baseline", 0)
    found = gathered(maker)
    assert [row["row"] for row in found.sweep["rows"]] == ["baseline", "norm=rmsnorm"]
    assert [row["overrides"] for row in found.sweep["rows"]] == [[], ["norm=rmsnorm"]]
    assert len(found.records) == 3


def test_runs_of_a_sweep_of_the_package(tmp_path):
    """A folder without the sweep's file does not make of them runs beside any sweep."""
    maker = Maker(tmp_path, name="axes", baseline="Vanilla Transformer")
    maker.run("Vanilla Transformer", 0, [])
    found = collect("axes", maker.runs, tmp_path / "no-sweeps")
    assert len(found.sweep["rows"]) > 10 and found.sweep["file"].startswith("# The demonstration")


def test_no_such_sweep(tmp_path):
    with pytest.raises(UserError, match="made-up"):
        collect("made-up", tmp_path / "runs", tmp_path / "sweeps")


def test_files_that_were_changed_by_hand(tmp_path, maker):
    with pytest.raises(UserError, match="records.jsonl"):
        read(tmp_path / "nothing")
    write(gathered(maker), tmp_path / "out")
    records = tmp_path / "out" / "records.jsonl"
    good = records.read_text()
    records.write_text(good + "{oops")
    with pytest.raises(UserError, match="line 8"):
        read(tmp_path / "out")
    records.write_text(good.split("\n", 1)[1])
    with pytest.raises(UserError, match="line 1"):
        read(tmp_path / "out")
    records.write_text(good)
    (tmp_path / "out" / "curves.csv").write_text("row,seed\nx,1\n")
    with pytest.raises(UserError, match="curves.csv"):
        read(tmp_path / "out")


HEADERS = {
    "base": [1, None],
    "notes": {"a": 1},
    "skipped": [{"path": 1, "reason": "x"}],
    "skipped ": [{"path": "x"}],
    "name": None,
    "rows": [{"row": "A", "section": "s", "overrides": ["norm=rmsnorm", 3], "seeds": 3}],
    "rows ": [{"row": "A", "section": "s", "overrides": [], "seeds": -1}],
    "rows  ": [{"row": "A", "section": "s", "overrides": [], "seeds": 10**29}],
}


@pytest.mark.parametrize("key", HEADERS)
def test_a_first_line_that_describes_no_sweep_is_refused(tmp_path, maker, key):
    write(gathered(maker), tmp_path)
    first, *others = (tmp_path / "records.jsonl").read_text().splitlines()
    first = json.dumps(json.loads(first) | {key.strip(): HEADERS[key]})
    (tmp_path / "records.jsonl").write_text("\n".join([first, *others]))
    with pytest.raises(UserError, match="records.jsonl, line 1: must describe the sweep"):
        read(tmp_path)


@pytest.mark.parametrize("group", ["objective", "evaluation", "trainer"])
@pytest.mark.parametrize("value", [["a"], 3, "x", True])
def test_settings_that_are_none_are_not_believed(tmp_path, maker, group, value):
    for path in maker.runs.glob("*/*/seed-*/config.yaml"):
        path.write_text(json.dumps({**json.loads(json.dumps(SETTINGS)), group: value}))
    found = gathered(maker)
    assert all(record["settings"] == {} for record in found.records) and len(list(judge(found))) == 2
    found.records[0]["settings"] = {group: value}
    write(found, tmp_path)
    with pytest.raises(UserError, match=f"line 2: cannot be used: .*{group} must be a mapping"):
        read(tmp_path)


@pytest.mark.parametrize("line", ["A,0", "A,0,train", '"' + "x" * 200_000, "A,x,train,1,2.5", "A,0,train,1,many"])
def test_curves_in_another_format_are_refused(tmp_path, maker, line):
    write(gathered(maker), tmp_path)
    with open(tmp_path / "curves.csv", "a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=r"curves.csv, line [0-9]+: not in the format of loss curves"):
        read(tmp_path)


def test_what_was_left_out_is_said_in_a_line_each(tmp_path, maker):
    found = gathered(maker)
    found.sweep["skipped"] = [{"path": "a\x1b[2J", "reason": "gone\nleft out: nothing"}]
    write(found, tmp_path)
    assert build.rebuild(tmp_path).problems == ("a [2J: gone left out: nothing",)


NASTY = ["", "nan", "-inf", "1e400", "1e300", "-5", "0", "1.5", "9" * 5000, "x", "\0", '"', "٣", "train", "validation"]


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("nasty", NASTY)
def test_a_line_of_curves_is_used_or_refused_in_a_line(tmp_path, column, nasty):
    cells = ["ReLU", "0", "train", "10", "5.5"]
    cells[column] = nasty
    path = tmp_path / "curves.csv"
    path.write_text("row,seed,kind,step,loss\nReLU,0,train,5,6.5\n" + ",".join(cells) + "\n")
    try:
        found = curves_csv.read(path)
    except UserError as error:
        assert str(error).startswith(f"{path}, line ") and "\n" not in str(error) and len(str(error)) < 250
    else:
        assert curves_csv.read(_written(tmp_path / "again.csv", curves_csv.text_of(found))) == found
        assert all(curves_csv.is_point(kind, *point) for (_, _, kind), points in found.items() for point in points)


@given(st.binary(max_size=60), st.integers(0, 90))
def test_any_bytes_among_curves_are_used_or_refused(tmp_path_factory, content, at):
    good = b"row,seed,kind,step,loss\nReLU,0,train,5,6.5\nReLU,0,train,10,5.5\nReLU,0,train,15,5.25\n"
    path = tmp_path_factory.mktemp("curves") / "curves.csv"
    for text in (good[:at], good[:at] + content + good[at + len(content) :]):
        path.write_bytes(text)
        with contextlib.suppress(UserError):
            curves_csv.read(path)


def _written(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "line", ["0,1,5.5,,,train,", "1e9,1,5.5,,,train,", "9" * 400 + ",1,5.5,,,train,", "3,1,1e300,,,train,"]
)
def test_metrics_of_no_step_or_no_loss_are_left_out(maker, line):
    for path in maker.runs.glob("*/*/seed-*/metrics.csv"):
        path.write_text(f"step,time,loss,learning_rate,grad_norm,kind,bits_per_byte\n{line}\n")
    assert gathered(maker).curves == {}


def test_what_was_moved_aside_is_not_set_beside_what_replaces_it(maker):
    """The records beside a report still have the runs of the former config."""
    older = gathered(maker)
    for row in (maker.runs / maker.name).iterdir():
        (row / "seed-1").rename(row / "seed-1.replaced-1")
    found = collect(maker.name, maker.runs, maker.sweeps, older)
    assert {record["seed"] for record in found.records} == {0, 2}
    assert len(found.sweep["skipped"]) == 2
    assert all("moved aside for a run with a different config" in reason for reason in skipped(found).values())


OLD = ["early=0.125", "evaluation.tokens=4096", "own_rates=[{parameters: '*.kappa', times: 0.1, until: 0.96}]"]
NEW = [
    "early_fraction=0.125",
    "evaluation.heldout.tokens=4096",
    "parameter_groups=[{parameters: '*.kappa', lr_multiplier: 0.1, until_fraction: 0.96}]",
]


HELDOUT = {"_target_": "ablate.evaluation.heldout.HeldOut", "part_of_training": True}


def _old_and_new(maker):
    """Seed 0 of both rows as an earlier version left it, seeds 1 and 2 as this one does."""
    heldout = {"tokens": 4096, "seed": 7}
    settings = {"evaluation": {"heldout": {**HELDOUT, **heldout}}, "early_fraction": 0.125}
    for seed in range(3):
        evaluation = {"evaluation": heldout, "early": 0.125, "early_fraction": None} if seed == 0 else settings
        keys = OLD if seed == 0 else NEW
        maker.run(maker.baseline, seed, extra=keys[:1], final=5.0 + seed / 100, settings=evaluation)
        maker.run("RMS Norm", seed, keys[1:], extra=keys[:1], final=4.9 + seed / 99, settings=evaluation)


@pytest.mark.parametrize("overrides", [OLD[1:], NEW[1:]])
def test_runs_with_the_keys_of_an_earlier_version_belong_to_the_same_sweep(tmp_path, overrides):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", overrides)
    maker.write_sweep()
    _old_and_new(maker)
    found = gathered(maker)
    assert found.sweep["skipped"] == [] and len(found.records) == 6
    (row,) = judge(found).rows
    assert row.verdict != "not comparable" and row.mixed == "" and row.comparison.seeds == 3
    shown = Provenance(found, judge(found))
    assert shown.troubles == ["**Vanilla Transformer** is missing 2 runs (not started: 2 runs)"]
    assert "ablate sweep made-up stored=false # all runs" in shown.commands
    assert [record["settings"].get("early_fraction") for record in found.records] == [None, 0.125, 0.125] * 2
    fresh = collect(maker.name, tmp_path / "no-runs", maker.sweeps, found)
    assert fresh.records == found.records


def test_another_seed_of_the_held_out_windows_is_another_evaluation(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        heldout = {**HELDOUT, "tokens": 4096, "seed": 7 if seed else 8}
        maker.run(maker.baseline, seed, settings={"evaluation": {"tokens": 4096, "seed": 7}})
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], settings={"evaluation": {"heldout": heldout}})
    (row,) = judge(gathered(maker)).rows
    assert (row.verdict, row.why) == ("not comparable", "different evaluation in some of its own runs")


@pytest.mark.parametrize("later", [[], ["evaluation=[heldout,by_position]", "evaluation.by_position.bins=4"]])
def test_what_is_measured_after_training_makes_nothing_incomparable(tmp_path, later):
    """Of one row some runs have a further evaluation, and others do not; the sweep may ask for it since."""
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm", *later])
    maker.write_sweep()
    heldout = {**HELDOUT, "tokens": 4096, "seed": 7}
    for seed in range(3):
        more = {"by_position": {"_target_": "x", "bins": seed}} if seed else {}
        maker.run(maker.baseline, seed, settings={"evaluation": {"heldout": heldout}})
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], settings={"evaluation": {"heldout": heldout, **more}})
    found = gathered(maker)
    (row,) = judge(found).rows
    assert found.sweep["skipped"] == [] and row.verdict not in ("not comparable", "no verdict") and row.mixed == ""


def test_a_record_that_is_there_twice_counts_once(tmp_path, maker):
    write(gathered(maker), tmp_path / "out")
    records = tmp_path / "out" / "records.jsonl"
    lines = records.read_text().splitlines()
    records.write_text("\n".join([*lines, lines[1]]) + "\n")
    again = read(tmp_path / "out")
    assert len(again.records) == len(lines) - 1 and not again.sweep["skipped"]
    other = json.loads(lines[1])
    other["loss"]["final"] += 0.5
    records.write_text("\n".join([*lines, json.dumps(other)]) + "\n")
    again = read(tmp_path / "out")
    assert [*map(json.dumps, again.records)] == [json.dumps(json.loads(line)) for line in lines[1:]]
    assert "is there twice, and differs" in again.sweep["skipped"][0]["reason"]


@pytest.mark.parametrize("damage", ['{"final": -1', '{"final": 1e999', '{"final": NaN', '{"final": []'])
def test_a_damaged_line_is_named(tmp_path, maker, damage):
    write(gathered(maker), tmp_path / "out")
    records = tmp_path / "out" / "records.jsonl"
    head, first, *lines = records.read_text().splitlines()
    first = first.replace('"loss":{', '"loss":' + damage + ",")
    first = first.replace(',"final":5.0', ',"other":5.0')
    records.write_text("\n".join([head, first, *lines]) + "\n")
    with pytest.raises(UserError, match="line 2: "):
        read(tmp_path / "out")
