"""The table of docs/speed.md is made from the results that the benchmark wrote."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.contestants import floors, roster, table
from benchmarks.contestants.work import STANDARD


def test_the_page_is_that_of_the_committed_results():
    page = table.PAGE.read_text(encoding="utf-8")
    content = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    assert table.written(page, table.markdown(content)) == page, "run python -m benchmarks.contestants.table"


def test_the_committed_results_are_of_equal_losses():
    content = json.loads(table.RESULTS.read_text(encoding="utf-8"))
    for modes in content["families"].values():
        for results in modes.values():
            assert results[0]["name"] == roster.OURS
            assert all(one["loss_differences"][0] <= 1e-4 for one in results if one["same_work"])


def one(name, speed, same_work=True, note=""):
    return {
        "name": name,
        "same_work": same_work,
        "note": note,
        "loss_differences": [0.25, 0.25, 0.25],
        "tokens_per_second": 1234.5,
        "our_speed": [speed, speed - 0.01, speed + 0.01],
        "peak_mib": 1100,
        "imports_mib": 230,
    }


@pytest.fixture
def content():
    results = [one(roster.OURS, 1.0), one("slow", 1.2), one("fast", 0.97), one("other", 0.9, False, "no positions")]
    machine = {"processor": "A processor", "cores": 2, "threads": 1, "load_before": 0.1, "load_after": 1.1}
    return {
        "date": "2026-01-02",
        "machine": machine,
        "rounds": 60,
        "warm_up": 5,
        "versions": {"torch": "2.13.0"},
        "work": {"gpt2": dataclasses.asdict(STANDARD["gpt2"])},
        "absent": {"gpt2": ["nanoGPT"]},
        "families": {"gpt2": {"eager": results}},
    }


def test_markdown(content):
    text = table.markdown(content)
    assert "A processor, 2 cores, one thread" in text and "0.1 before and 1.1 after" in text
    assert "60 rounds after 5 to warm up" in text and "torch 2.13.0" in text
    assert "6 layers, `d_model` 256, 4 heads, `d_ff` 1024, vocabulary 8,192; 8 × 256 tokens a step." in text
    lines = {line.split(" | ")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert lines["| **ablate**"] == "| **ablate** | 1,234 | 1 | 1,100 | 230 |"
    assert "| 1.20 [1.19, 1.21] |" in lines["| slow"]
    assert "| **0.97 [0.96, 0.98]** |" in lines["| fast"], "the fastest that does the same work"
    assert "| 0.90 [0.89, 0.91] |" in lines["| other (1)"]
    assert "1. No positions: other work, its loss is not ours (by 0.25 nats)." in text
    assert "Left out, not fetched: nanoGPT." in text


def test_a_column_for_each_mode(content):
    modes = content["families"]["gpt2"]
    modes["compiled"] = modes["eager"]
    heads = next(line for line in table.markdown(content).splitlines() if "our speed over it" in line)
    assert heads.count("our speed over it") == 2 and heads.index("eager:") < heads.index("compiled:")


def test_the_text_of_the_page_stays():
    begin, end = table.MARKS
    assert table.written(f"a\n{begin}\nold\n{end}\nb", "new") == f"a\n{begin}\n\nnew\n\n{end}\nb"
    with pytest.raises(ValueError, match="lacks the marks"):
        table.written("no marks", "new")


def test_every_family_has_a_title_and_floors():
    assert table.TITLES.keys() == floors.SPEED.keys() == roster.FAMILIES.keys()
