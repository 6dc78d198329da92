"""The report as files: what they contain, in which order, and that they are the same each time."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ablate.cli import report as report_command
from ablate.errors import UserError
from ablate.report import build
from ablate.report.analysis import gathering, records_file
from ablate.report.analysis.judge import judge
from ablate.report.render import csv_tables
from ablate.report.render.csv_tables import score_columns
from ablate.report.render.plots.costs import costs, losses_of
from ablate.report.render.plots.score_heatmap import LIMIT
from ablate.report.render.summary import expectation
from ablate.run.folder import run_path
from ablate.study.expectations import Expectation
from tests import cpu_seconds
from tests.report.synthetic import SETTINGS, Maker, false_alarm_sweep, large_sweep, small_sweep

COLUMNS = (
    "row section runs parameters ops_paper flops_per_step steps_per_second speed_ratio speed_ratio_low "
    "speed_ratio_high timing_rounds early_loss early_loss_std final_loss final_loss_std delta delta_low delta_high "
    "p_adjusted verdict against"
).split()
HEADINGS = [
    "What was run",
    "Verdicts",
    "Agreement",
    "Cost",
    "Plots",
    "What diverged, failed or is missing",
    "How to repeat it",
]


def make(maker):
    return build.build(maker.name, maker.runs, maker.reports, maker.sweeps).path


def judged(maker):
    return judge(gathering.collect(maker.name, maker.runs, maker.sweeps))


def lines_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A report of a sweep in which much went wrong."""
    maker = small_sweep(tmp_path_factory.mktemp("small"))
    return maker, make(maker)


def test_the_files(small):
    maker, report = small
    assert report == maker.reports / maker.name / "report.md"
    there = set(content(report.parent))
    assert {"report.md", "results.csv", "runs.csv", "records.jsonl", "curves.csv", "evidence.csv", "table.tex"} < there
    plots = {name for name in there if name.endswith(".png")}
    assert plots == {
        f"{name}.png"
        for name in "forest loss_curves loss_gap gradient_norm loss_vs_cost published course heatmap".split()
    }


def test_the_order_of_the_sections(small):
    _, report = small
    text = report.read_text()
    found = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert len(found) == len(HEADINGS)
    assert all(line.startswith(heading) for line, heading in zip(found, HEADINGS, strict=True))
    assert text.startswith("# Which of the best-known changes")
    for name in content(report.parent):
        if name.endswith(".png"):
            assert text.count(f"({name})") == 1


def test_results_csv(small):
    maker, report = small
    lines = lines_of(report.parent / "results.csv")
    assert list(lines[0]) == COLUMNS
    assert lines[0]["row"] == maker.baseline and lines[0]["verdict"] == "baseline" and lines[0]["runs"] == "5"
    by_row = {line["row"]: line for line in lines}
    assert len(by_row) == 17
    verdict_of = {row: line["verdict"] for row, line in by_row.items()}
    assert verdict_of["SwiGLU"] == "better" and verdict_of["No position"] == "worse"
    assert (
        verdict_of["RMS Norm"] == "no difference detected"
        and verdict_of["A/A (other initial values)"] == "no difference detected"
    )
    assert verdict_of["No norm, deep"] == "diverged"
    assert verdict_of["Sigmoid"] == verdict_of["Squared ReLU"] == "no verdict"
    assert verdict_of["Larger vocabulary"] == "not comparable" and by_row["Larger vocabulary"]["delta"] == ""
    for line in lines[1:]:
        tested = line["verdict"] in ("better", "worse", "no difference detected")
        assert bool(line["p_adjusted"]) == bool(line["delta_low"]) == tested
        if tested:
            excludes_zero = float(line["delta_low"]) > 0 or float(line["delta_high"]) < 0
            assert excludes_zero == (line["verdict"] != "no difference detected")


def test_runs_csv_has_every_run(small):
    _, report = small
    lines = lines_of(report.parent / "runs.csv")
    assert len(lines) == 52
    states = [line["status"] for line in lines]
    assert {state: states.count(state) for state in set(states)} == {
        "done": 48,
        "diverged": 2,
        "failed": 1,
        "preempted": 1,
    }
    assert {line["reason"] for line in lines if line["status"] == "diverged"} == {"the loss is nan at step 84"}


def test_what_the_report_says(small):
    _, report = small
    text = " ".join(report.read_text().split())
    for words in (
        "Of 15 changes to Vanilla Transformer, 3 are better, 3 are worse, 5 are undecided",
        "**Control:** A/A (other initial values) changes only seeds",
        "different tokenizer",
        "⚑ +50 % FLOPs",
        "⚑ −3.0 % FLOPs",
        "**No norm, deep** diverged (seeds 1 and 2): the loss is nan at step 84",
        "**Sigmoid** failed (seed 2): out of memory",
        "**Squared ReLU** is missing 2 runs (unfinished: seed 1; not started: 1 run)",
        "53 planned: 48 done, 2 diverged, 1 failed, 2 missing",
        "ablate sweep made-up",
        "Speeds were measured one row at a time, with no other run under way. What else the machine did is not known",
        "`block.placement=post`",
        "losses over 14,336 held-out target tokens, the same for every run",
    ):
        assert words in text
    assert "demonstration" not in text


def test_a_speed_is_in_the_findings_where_its_interval_excludes_1(tmp_path):
    maker = false_alarm_sweep(tmp_path)
    text = make(maker).read_text()
    found = re.search(r"[*][*]SwiGLU[*][*] by [^;]*; (0[.]\d\d) × the speed, (0[.]\d\d) to (0[.]\d\d)\)", text)
    assert found and float(found[2]) <= float(found[1]) <= float(found[3]) < 1
    assert f"{found[1]} × ({found[2]} to {found[3]}) |" in text  # in the table of costs
    assert re.search(r"[|] RMS Norm [|].* 0[.]99 × \(0[.]9\d to 1[.]0\d\) [|]", text)
    assert "Other processes kept 0.2 cores busy before it began and 0.1 (at most 0.1) while rows were measured." in text
    path = run_path(maker.runs, maker.name, "SwiGLU", 0) / "record.json"
    record = json.loads(path.read_text())
    for changes in ({"began": "2026-02-02T02:00:00Z"}, {"rounds": [16.0, 24.0, 16.0, 24.0, 16.0, 20.0]}, None):
        timing = changes and {**record["steps_per_second"]["timing"], **changes}
        path.write_text(json.dumps({**record, "steps_per_second": {**record["steps_per_second"], "timing": timing}}))
        text = make(maker).read_text()
        assert "**SwiGLU** by" in text and "× the speed" not in text


def test_speeds_in_results_csv_are_ratios_of_the_timing_pass(tmp_path):
    maker = false_alarm_sweep(tmp_path)
    lines = {line["row"]: line for line in lines_of(make(maker).parent / "results.csv")}
    base, found = lines[maker.baseline], lines["SwiGLU"]
    assert (base["speed_ratio"], base["speed_ratio_low"], base["timing_rounds"]) == ("", "", "6")
    low, middle, high = (float(found[f"speed_ratio{end}"]) for end in ("_low", "", "_high"))
    assert low < middle < high < 1 and found["timing_rounds"] == "6"


@pytest.mark.parametrize("measured", ["while training", "alone, rounds not kept", "in four rounds"])
def test_no_speed_is_in_the_head_of_a_report_without_a_timing_pass(tmp_path, measured):
    """Half the speed, measured under whatever load there was, is no finding."""
    maker = Maker(tmp_path)
    maker.reference = "narang2021"
    labels = {"SwiGLU": "swiglu", "GeLU": "gelu", "Swish": "swish", "ELU": "elu", "GLU": "glu", "SeLU": "selu"}
    for number, (label, option) in enumerate([(maker.baseline, ""), *labels.items()]):
        speed = 0.5 if option else 1.0
        if option:
            maker.add(label, "activation", [f"activation={option}"])
        rounds = [20.0 * speed] * 4 if measured == "in four rounds" else None
        for seed in range(3):
            maker.run(
                *(label, seed, [f"activation={option}"] if option else []),
                final=5.0 - 0.1 * number + (seed * 3 + number * 2) % 5 / 1000,
                speed=speed,
                rounds=rounds,
                **({"steps_per_second": {"median": 14.0 * speed}} if measured == "while training" else {}),
            )
    maker.write_sweep()
    report = make(maker)
    head, rest = report.read_text().split("## What was run")
    assert "6 are better" in head and "×" not in head and "speed" not in head
    assert "| speed |" not in rest  # nor a line of agreement
    lines = lines_of(report.parent / "results.csv")
    assert {line["speed_ratio"] for line in lines} == {""} and float(lines[1]["steps_per_second"]) < 12


def test_again_and_from_a_fresh_clone_byte_for_byte(small, tmp_path):
    maker, report = small
    before = content(report.parent)
    make(maker)
    assert content(report.parent) == before
    clone = tmp_path / "clone" / maker.name
    clone.mkdir(parents=True)
    for name in ("records.jsonl", "curves.csv"):
        shutil.copy(report.parent / name, clone)
    (clone / "old.png").write_bytes(b"of a plot that is no longer drawn")
    build.build(maker.name, tmp_path / "no-runs", clone.parent, tmp_path / "no-sweeps")
    assert content(clone) == before


def test_a_broken_record_costs_no_report(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    maker.run(maker.baseline, 0)
    (maker.run("RMS Norm", 0, ["norm=rmsnorm"]) / "record.json").write_text("{")
    report = build.build(maker.name, maker.runs, maker.reports, maker.sweeps)
    (problem,) = report.problems
    assert "seed-0: record.json cannot be read" in problem
    assert "Left out: `rms-norm-" in report.path.read_text()


def test_strict_tells_a_caller_of_a_broken_record(tmp_path, capsys):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    maker.run(maker.baseline, 0)
    folder = maker.run("RMS Norm", 0, ["norm=rmsnorm"])
    paths = [f"paths.{kind}={getattr(maker, kind)}" for kind in ("runs", "reports", "sweeps")]
    assert report_command.run([maker.name, "--strict", *paths]) == 0
    (folder / "record.json").write_text("{")
    for words, code in (([], 0), (["--strict"], 1)):
        assert report_command.run([maker.name, *words, *paths]) == code
        assert "left out: rms-norm-" in capsys.readouterr().err


@pytest.mark.parametrize("runs", ["none", "one", "baseline missing", "diverged"])
def test_a_report_of_next_to_nothing(tmp_path, runs):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.reference = "narang2021"
    maker.write_sweep()
    if runs == "one":
        maker.run(maker.baseline, 0)
    if runs == "baseline missing":
        for seed in range(3):
            maker.run("RMS Norm", seed, ["norm=rmsnorm"])
    if runs == "diverged":
        for seed in range(3):
            maker.run(maker.baseline, seed, status="diverged", reason="nan")
            maker.run("RMS Norm", seed, ["norm=rmsnorm"], status="diverged", reason="nan")
    report = make(maker)
    (line,) = (line for line in lines_of(report.parent / "results.csv") if line["row"] == "RMS Norm")
    assert line["verdict"] == ("diverged" if runs == "diverged" else "no verdict")
    assert "Agreement with Narang" in report.read_text()


EXPECT = {
    "SwiGLU": {"better": "Shazeer 2020"},
    "No position": {"better": "me, wrongly"},
    "RMS Norm": {"equal": "Zhang | Sennrich 2019"},
}


def test_verdicts_are_set_beside_what_the_sweep_file_expects(tmp_path):
    maker = small_sweep(tmp_path)
    for section in maker.sections.values():
        for label, row in section.items():
            if label in EXPECT:
                section[label] = {"overrides": row, "expect": EXPECT[label]}
    maker.write_sweep()
    report = make(maker)
    text = report.read_text()
    head = text.split("## What was run")[0]
    assert (
        "**The sweep file says, with a source for each, what to expect of 3 changes: 1 comes out as expected; "
        "1 otherwise: No position (worse where better was expected); 1 stays open: RMS Norm (equal expected).**"
    ) in head
    for label, cells in {
        "SwiGLU": "**better** | better ✓",
        "No position": "**worse** | better ✗",
        "RMS Norm": "no difference detected | equal",
    }.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {label} ") and f" | {cells} | " in line)
        assert line.count(" | ") == 11 - 1
    assert "| RMS Norm | `norm=rmsnorm` | equal: Zhang \\| Sennrich 2019 |" in text
    evidence = {line["row"]: line for line in lines_of(report.parent / "evidence.csv")}
    assert (evidence["SwiGLU"]["expected"], evidence["SwiGLU"]["expected_by"]) == ("better", "Shazeer 2020")
    assert evidence["Post-norm"]["expected"] == ""


def test_agreement_with_what_is_expected_in_words(tmp_path):
    found = judged(false_alarm_sweep(tmp_path))

    def said(**expected):
        words = {row.label: expected.get(row.label.split()[0]) for row in found.rows}
        rows = [replace(row, expected=(word := words[row.label]) and Expectation(word, "me")) for row in found.rows]
        return expectation(replace(found, rows=rows))

    assert said() == ""
    start = "The sweep file says, with a source for each, what to expect of"
    assert said(SwiGLU="better") == f"{start} 1 change: 1 comes out as expected; none otherwise."
    contrary = "none come out as expected; 1 otherwise: SwiGLU (better where equal was expected)"
    assert said(SwiGLU="equal") == f"{start} 1 change: {contrary}."
    still = "none come out as expected; none otherwise; 1 stays open: RMS Norm (equal expected)"
    assert said(RMS="equal") == f"{start} 1 change: {still}."


def test_a_demonstration_says_so_in_its_first_line(tmp_path):
    maker = Maker(tmp_path, data="builtin")
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed)
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9)
    first = make(maker).read_text().splitlines()[0]
    assert first.startswith("**This is a demonstration:** a model of 640 k parameters, trained for 200 steps on ")
    assert "the signs of its differences" in first and "hold for this setting" in first


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"sha": "f" * 64}, "different data"),
        ({"settings": {"objective": SETTINGS["objective"] | {"mean_span": 5.0}}}, "different objective"),
        ({"settings": {"objective": SETTINGS["objective"] | {"length": 128}}}, "different length"),
        (
            {"settings": {"tokenizer": SETTINGS["tokenizer"] | {"kind": "unigram"}}, "sha": "f" * 64},
            "different tokenizer",
        ),
        ({"settings": {"evaluation": {"tokens": 1024, "seed": 1}}}, "different evaluation"),
        ({"identity_schema": 2}, "different identity schema"),
        ({"identity_schema": 1}, ""),  # as records have it that do not say it
        ({"settings": {"optimizer": {"_target_": "ablate.training.adam.Adam"}}}, ""),
    ],
)
def test_no_verdict_between_things_that_differ(tmp_path, changes, why):
    maker = Maker(tmp_path)
    maker.add("other", "rows", ["data=c4"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, final=5 + seed / 50)
        maker.run("other", seed, ["data=c4"], final=4 + seed / 60, **changes)
    (row,) = judged(maker).rows
    assert row.why == why
    assert row.verdict == ("not comparable" if why else "better")
    lines = csv.DictReader(csv_tables.results_csv(judged(maker)).splitlines())
    assert [line["delta"][:1] for line in lines] == ["", "" if why else "-"]


def test_one_seed_that_diverged_keeps_a_row_from_being_better(tmp_path):
    maker = Maker(tmp_path)
    maker.seeds = {"baseline": 5, "rows": 5}
    for label in ("fragile", "sound"):
        maker.add(label, "rows", [f"norm={label}"])
    maker.write_sweep()
    for seed in range(5):
        maker.run(maker.baseline, seed, final=5 + seed / 50)
        maker.run("sound", seed, ["norm=sound"], final=4.5 + seed / 60)
        maker.run("fragile", seed, ["norm=fragile"], final=4.5 + seed / 60, status="diverged" if seed == 4 else "done")
    fragile, sound = judged(maker).rows
    assert sound.verdict == "better"
    assert fragile.verdict == "diverged" and fragile.why == "1 of 5 seeds" and fragile.comparison.delta < -0.4


def test_a_run_that_ends_above_a_uniform_guess_has_no_verdict(tmp_path):
    maker = Maker(tmp_path)
    for label in ("lost", "sound", "more", "and more"):
        maker.add(label, "rows", [f"norm={label}"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, final=5 + seed / 50)
        maker.run("lost", seed, ["norm=lost"], final=[205.0, 7.7, 6.0][seed])
        for number, label in enumerate(("sound", "more", "and more")):
            maker.run(label, seed, [f"norm={label}"], final=4.5 + seed / 50 + ((seed + number) % 3) / 900)
    lost, sound, *_ = judged(maker).rows
    assert lost.verdict == "above chance"
    assert lost.why == "2 of 3 seeds ended above the loss of a uniform guess, 7.62, still falling"
    assert sound.verdict == "better" and sound.comparison.error < 0.01
    assert f"**lost**: {lost.why}; such losses are not compared" in make(maker).read_text()


def test_rows_with_spikes_are_named(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS norm", "norms", ["norm=rmsnorm"])
    maker.write_sweep()
    maker.run(maker.baseline, 0)
    largest = {"step": 90, "what": "loss", "value": 9.5, "deviations": 8.0}
    for seed, skipped in ((0, 0), (1, 2)):
        spikes = {"count": 2, "skipped": skipped, "first_step": 80, "largest": largest}
        maker.run("RMS norm", seed, ["norm=rmsnorm"], spikes=spikes)
    said = make(maker).read_text()
    assert "**RMS norm**: 4 spikes of loss or gradient norm while training (seeds 0 and 1), 2 skipped" in said
    assert said.count(" spikes of loss") == 1


def test_a_seed_of_the_baseline_that_learned_nothing_counts_nowhere(tmp_path):
    maker = Maker(tmp_path)
    for label in ("sound", "more"):
        maker.add(label, "rows", [f"norm={label}"])
    maker.write_sweep()
    for seed in range(5):
        lost = {"final": 9.0, "early": 30.0} if seed == 4 else {"final": 5 + seed / 50}
        maker.run(maker.baseline, seed, **lost)
    for seed in range(3):
        for number, label in enumerate(("sound", "more")):
            maker.run(label, seed, [f"norm={label}"], final=4.5 + seed / 50 + ((seed + number) % 3) / 900)
    found = judged(maker)
    assert found.baseline.learned == 4 and np.isfinite(found.baseline.early).sum() == 4
    assert found.rows[0].early_comparison.delta == pytest.approx(found.rows[0].comparison.delta)
    text = make(maker).read_text()
    assert "(sd over 4 seeds)" in text and "bits per byte, 4 runs." in text


@pytest.mark.parametrize("who", ["row", "baseline"])
@pytest.mark.parametrize(
    "changes, why",
    [
        ({"sha": "f" * 64}, "different data"),
        ({"settings": {"evaluation": {"tokens": 1024}}}, "different evaluation"),
        ({"identity_schema": 2}, "different identity schema"),
    ],
)
def test_no_verdict_where_the_runs_of_a_row_differ(tmp_path, who, changes, why):
    """As when a fresh clone trains one more seed on a text that is no longer the same."""
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        of = {who: changes if seed == 2 else {}}
        maker.run(maker.baseline, seed, final=5 + seed / 50, **of.get("baseline", {}))
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4 + seed / 60, **of.get("row", {}))
    (row,) = judged(maker).rows
    owner = "its own runs" if who == "row" else "the baseline's runs"
    assert (row.verdict, row.why) == ("not comparable", f"{why} in some of {owner}")
    if why == "different data":
        assert f"more than one data set: {'d' * 64} (5 runs), {'f' * 64} (1 run)" in make(maker).read_text()
    if why == "different identity schema":
        assert ("Runs of different identity schemas are not compared: 1 (5 runs), 2 (1 run)") in make(maker).read_text()


@pytest.mark.parametrize(("label", "line"), [("µP ≤ 2", None), ("漢🙂", "漢 🙂")])
def test_the_table_for_a_paper_says_which_engine_it_needs(tmp_path, label, line):
    maker = Maker(tmp_path)
    maker.add(label, "section", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, final=5 + seed / 50)
        maker.run(label, seed, ["norm=rmsnorm"], final=4 + seed / 60)
    table = (make(maker).parent / "table.tex").read_text()
    needs = f"% needs XeLaTeX or LuaLaTeX, and a font that has {line}"
    assert (needs in table.splitlines()) if line else "XeLaTeX" not in table and table.isascii()


def test_a_point_over_its_cost_is_on_the_side_of_its_verdict(small):
    maker, _ = small
    found = judged(maker)
    losses, base = losses_of(found), np.nanmean(found.baseline.final)
    assert losses[maker.baseline] == pytest.approx(base)
    assert {label for label in losses if losses[label] < base} == {
        row.label for row in found.rows if row.comparison.delta < 0
    }
    assert set(losses) == {row.label for row in found.rows if np.isfinite(row.comparison.delta)} | {maker.baseline}
    figure = costs(found).figure
    drawn = {line.get_ydata()[0] for axes in figure.axes for line in axes.lines if len(line.get_ydata()) == 1}
    assert losses["SwiGLU"] in drawn and losses["RMS Norm"] in drawn


def test_the_report_says_that_a_single_row_was_tested_by_pairs(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(5):
        maker.run(maker.baseline, seed, final=5 + seed / 50)
    for seed in range(3):
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9 + seed / 60)
    text = make(maker).read_text()
    assert "paired t test" in text and "step-down" not in text and "are not used" in text


def test_baseline_runs_without_a_step_in_common_draw_no_curves(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        path = maker.run(maker.baseline, seed, final=5 + seed / 50)
        if seed == 0:
            lines = (path / "metrics.csv").read_text().splitlines()
            (path / "metrics.csv").write_text("\n".join([*lines[:3], lines[-1]]) + "\n")
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9 + seed / 60)
    report = make(maker)
    assert not (report.parent / "loss_curves.png").exists() and (report.parent / "forest.png").exists()


def test_what_differs_between_runs_is_named(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, extra=["trainer.steps=100"])
    maker.run("RMS Norm", 0, ["norm=rmsnorm"], versions={"torch": "2.12.0", "python": "3.11.9", "ablate": "0.1.0"})
    maker.run("RMS Norm", 1, ["norm=rmsnorm"], git={"sha": "f" * 40, "dirty": True})
    maker.run("RMS Norm", 2, ["norm=rmsnorm"], hardware={"device": "Another", "kind": "cpu", "devices": 1})
    text = make(maker).read_text()
    assert "more than one version of torch: 2.13.0 (5 runs), 2.12.0 (1 run)" in text
    assert "more than one commit" in text and "more than one device" in text
    assert "1 run used source files with uncommitted changes" in text
    assert "different command-line overrides: none (3 runs), trainer.steps=100 (3 runs)" in text


def test_strings_from_outside_change_nothing_but_words(tmp_path):
    nasty = "=1+1 a|b <img src=x onerror=alert(1)> [x](javascript:alert(1)) `$\\alpha$` **b**"
    maker = Maker(tmp_path)
    maker.question = f"# {nasty}"
    maker.notes = f"{nasty}\n\n## not a heading"
    maker.add(nasty, "| section |", ["norm=rmsnorm"])
    maker.add("-x", "| section |", ["norm=none"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, final=5 + seed / 50)
        maker.run(nasty, seed, ["norm=rmsnorm"], final=4 + seed / 60, command="```\n# oops", hardware={"device": nasty})
        maker.run("-x", seed, ["norm=none"], status="failed", reason=f"{nasty}\n\n- oops")
    report = make(maker)
    text = report.read_text()
    assert "\n## not" not in text and "\n# oops" not in text
    markdown = pytest.importorskip("markdown_it").MarkdownIt("gfm-like", {"linkify": False})
    html = markdown.render(text)
    assert html.count("<h2") == len(HEADINGS) - 1 and html.count("<h1") == 1
    assert "<p>## not a heading</p>" in html  # a paragraph of the notes
    assert "onerror=alert(1)&gt;" in html and "<img src=x" not in html and "<a " not in html
    for name in ("results.csv", "runs.csv", "evidence.csv"):
        for line in lines_of(report.parent / name):
            assert not any(value.startswith(("=", "@", "+")) for value in line.values())
            assert line["row"] in (maker.baseline, "'" + nasty, "'-x")
    assert r"\textbackslash{}alpha\$" in (report.parent / "table.tex").read_text()
    assert build.rebuild(report.parent).path.read_text() == text


def test_downstream_scores(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(3):
        maker.run(maker.baseline, seed, final=5 + seed / 50, downstream={"superglue": 70 + seed, "xsum": 17.0})
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9 + seed / 60, downstream={"superglue": 74 + seed})
    report = make(maker)
    _, row = lines_of(report.parent / "results.csv")
    assert list(row) == [*COLUMNS, *score_columns(["superglue", "xsum"])]
    assert row["superglue"] == "75" and row["superglue_std"] == "1" and row["xsum"] == ""
    assert "## Downstream scores" in report.read_text()
    assert {"downstream.csv", "downstream.tex", "scores.png"} <= {path.name for path in report.parent.iterdir()}
    for seed in range(3):  # the same runs without scores
        maker.run(maker.baseline, seed, final=5 + seed / 50)
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9 + seed / 60)
    assert not {path.name for path in make(maker).parent.iterdir()} & {"downstream.csv", "downstream.tex", "scores.png"}


def scored(name, value, higher_is_better, **more):
    """A record's fields for one score."""
    source = {"evaluation": "mine", "hash": more.pop("hash", "0" * 16)}
    score = {"value": value, "unit": "points", "higher_is_better": higher_is_better, "source": source, **more}
    return {"downstream": {name: value}, "scores": {name: score}}


@pytest.fixture
def measured(tmp_path):
    """A sweep with a score, of which either the higher or the lower is better, and a curve."""

    def make_report(higher_is_better, change=lambda row, seed: {}):
        maker = Maker(tmp_path)
        maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
        maker.write_sweep()
        for seed in range(3):
            curve = {"x": "position", "xs": [2, 4.5], "ys": [6.0 + seed, 5.0]}
            for row, overrides, extra in ((maker.baseline, [], 0), ("RMS Norm", ["norm=rmsnorm"], 8)):
                fields = scored("depth", 70.0 + seed + extra, higher_is_better, curve=curve) | change(row, seed)
                maker.run(row, seed, overrides, final=5 + seed / 50, **fields)
        return make(maker)

    return make_report


def test_a_score_says_by_itself_what_it_measures(measured):
    report = measured(higher_is_better=False)
    _, row = lines_of(report.parent / "results.csv")
    assert row["depth"] == "79" and row["depth_std"] == "1"
    text = report.read_text()
    assert "### depth (points, lower is better)" in text and "| 79.0 ± 1.0 |" in text
    assert lines_of(report.parent / "runs.csv")[0]["depth"] == "70"
    assert "& 79.0" in (report.parent / "table.tex").read_text()
    assert "not comparable" not in text


def test_curves_of_scores_are_further_rows_of_curves_csv(measured):
    report = measured(higher_is_better=True)
    lines = [line for line in lines_of(report.parent / "curves.csv") if line["kind"] == "depth"]
    assert len(lines) == 2 * 3 * 2
    assert [(line["row"], line["seed"], line["step"], line["loss"]) for line in lines[:2]] == [
        ("RMS Norm", "0", "2", "6"),
        ("RMS Norm", "0", "4.5", "5"),
    ]
    before = {path: path.read_bytes() for path in report.parent.iterdir()}
    records_file.write(records_file.read(report.parent), report.parent)
    build.rebuild(report.parent)
    assert {path: path.read_bytes() for path in report.parent.iterdir()} == before


@pytest.mark.parametrize(("higher_is_better", "sign"), [(True, -1), (False, 1)])
def test_the_heat_map_takes_the_direction_from_the_score(measured, higher_is_better, sign, monkeypatch):
    from matplotlib.axes import Axes

    drawn, imshow = [], Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, table, **k: drawn.append(table) or imshow(self, table, **k))
    measured(higher_is_better)
    _, table = drawn  # of losses, of scores
    assert table.data == pytest.approx(sign * LIMIT)  # 8 more at each seed


def test_what_became_of_evaluations_is_said(measured):
    def change(row, seed):
        if (row, seed) == ("RMS Norm", 0):
            return {"downstream": {}, "scores": {}, "scores_failed": {"mine": "RuntimeError: no such task"}}
        return scored("depth", 70.0 + seed, True, hash="1" * 16) if seed == 1 else {}

    text = measured(True, change).read_text()
    assert "- **RMS Norm**: evaluation mine failed (seed 0): RuntimeError: no such task" in text
    assert "- depth was measured in 2 ways, so rows may differ by how it was measured" in text
    assert "- depth was not measured for 1 finished run" in text


def test_a_sweep_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no sweep 'axs'"):
        build.build("axs", tmp_path, tmp_path, tmp_path)


def test_neither_torch_nor_lightning_is_imported(small):
    maker, _ = small
    code = (
        "import sys; from ablate.report import build; "
        f"build.build({maker.name!r}, {str(maker.runs)!r}, {str(maker.reports)!r}, {str(maker.sweeps)!r}); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'lightning', 'datasets')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_130_runs_take_less_than_20_seconds(tmp_path):
    maker = large_sweep(tmp_path)
    with cpu_seconds.at_most(20):
        report = make(maker)
    sizes = [path.stat().st_size for path in report.parent.iterdir()]
    assert sum(sizes) < 4e6
    before = content(report.parent)
    build.rebuild(report.parent)
    assert content(report.parent) == before


def test_one_more_run_does_not_lose_the_others(tmp_path):
    """A fresh clone has the records, not the folders; what was made otherwise than the sweep now asks is left out."""
    maker = small_sweep(tmp_path)
    report = make(maker)
    before = records_file.read(report.parent)
    newest = max(
        (record for record in before.records if record["row"] == maker.baseline), key=lambda record: record["seed"]
    )
    folder = next(
        path
        for path in (maker.runs / maker.name).rglob(f"seed-{newest['seed']}")
        if json.loads((path / "record.json").read_text())["row"] == maker.baseline
    )
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    shutil.rmtree(maker.runs / maker.name)
    shutil.copytree(kept, folder)
    make(maker)
    after = records_file.read(report.parent)
    assert after.records == before.records and after.curves == before.curves

    row = next(row for row in before.sweep["rows"] if row["overrides"])
    path = maker.sweeps / f"{maker.name}.yaml"
    path.write_text(path.read_text().replace(row["overrides"][0], f"{row['overrides'][0]}, dropout=0.1", 1))
    make(maker)
    assert row["row"] not in {record["row"] for record in records_file.read(report.parent).records}


def test_seeds_may_be_any_numbers(tmp_path):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in (7, 20240601, 2**31):
        maker.run(maker.baseline, seed, final=5.0 + seed % 5 / 100)
        maker.run("RMS Norm", seed, ["norm=rmsnorm"], final=4.9 + seed % 5 / 100)
    (row,) = judged(maker).rows
    assert row.comparison.seeds == 3 and len(row.final) == 3 and row.comparison.delta == pytest.approx(-0.1)


def test_a_report_without_runs_is_read_as_its_sweep_file_says_today(tmp_path):
    """Question, notes and what rows are compared with come from the file; the runs, and which were planned, stay."""
    maker = Maker(tmp_path)
    maker.add("Adam", "rows", ["optimizer=adam"])
    maker.add("Rezero", "rows", ["optimizer=adam", "residual=rezero"])
    maker.add("RMS Norm", "rows", ["norm=rmsnorm"])
    maker.write_sweep()
    for seed in range(5):
        for number, (label, loss) in enumerate(
            ((maker.baseline, 5.0), ("Adam", 5.5), ("Rezero", 5.3), ("RMS Norm", 5.0))
        ):
            overrides = maker.sections["rows"].get(label, [])
            maker.run(
                label, seed, overrides, final=loss + maker.seed_effects[seed] + (seed * 3 + number * 2) % 5 / 1000
            )
    report = make(maker)
    assert "**Rezero** by 0.30" in report.read_text() and "compared with" not in report.read_text()
    planned = records_file.read(report.parent).sweep["rows"]

    maker.question, maker.notes, maker.same_within = "Is it Adam?", "Read this.", 0.03
    maker.seeds = {"baseline": 9, "rows": 9}
    maker.add("Adam", "rows", ["optimizer=adam"], counts=False)
    maker.add("Rezero", "rows", ["optimizer=adam", "residual=rezero"], against="Adam")
    maker.add("New", "rows", ["bias=none"])
    maker.write_sweep()
    build.build(maker.name, tmp_path / "no-runs", maker.reports, maker.sweeps)
    text = report.read_text()
    assert text.startswith("# Is it Adam?") and "Read this." in text
    assert "Of 2 changes to Vanilla Transformer (1 against Adam), 1 is better, none is worse and 1 is the same" in text
    assert "**Control:** Adam, with which 1 row is compared, is not counted as a change; it is worse than" in text
    assert "| Row | Against | Difference |" in text and "| Rezero | Adam | −0.20" in text
    again = records_file.read(report.parent).sweep["rows"]
    assert [(row["row"], row["seeds"]) for row in again] == [(row["row"], row["seeds"]) for row in planned]
    before = content(report.parent)
    build.build(maker.name, tmp_path / "no-runs", maker.reports, maker.sweeps)
    assert content(report.parent) == before


@pytest.mark.parametrize(
    "change",
    [
        {"against": "nobody"},
        {"against": "RMS Norm"},
        {"against": 3},
        {"counts": "no"},
        {"expect": "better"},
        {"expect": {"better": 3}},
        {"expect": {"nicer": "me"}},
    ],
)
def test_records_whose_controls_make_no_sense_are_refused(tmp_path, change):
    maker = Maker(tmp_path)
    maker.add("RMS Norm", "norm", ["norm=rmsnorm"])
    maker.write_sweep()
    maker.run("RMS Norm", 0, ["norm=rmsnorm"])
    records_file.write(gathering.collect(maker.name, maker.runs, maker.sweeps), tmp_path / "report")
    path = tmp_path / "report" / "records.jsonl"
    first, *rest = path.read_text().splitlines()
    sweep = json.loads(first)
    next(row for row in sweep["rows"] if row["row"] == "RMS Norm").update(change)
    path.write_text("\n".join([json.dumps(sweep), *rest]) + "\n")
    with pytest.raises(UserError, match="line 1: must describe the sweep"):
        records_file.read(tmp_path / "report")
