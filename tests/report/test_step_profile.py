"""A profile's numbers, words and picture, and that a committed one is made again from its JSON."""

import copy
import json
from pathlib import Path

import pytest

from ablate.errors import UserError
from ablate.report import profile
from ablate.report.analysis import step_profile
from ablate.report.render import step_profile as rendered

REPORTS = Path(__file__).parents[2] / "reports"
NAMES = sorted(path.parent.name for path in REPORTS.glob("*/profile.json"))


def variant(label, norm_ms, step_ms, operations=2, flops=90):
    work = {
        "contraction": [0.060, 90], "normalization": [norm_ms / 1000, operations], "element-wise": [0.010, 8],
        "data movement": [0.005, 0], "optimizer": [0.004, 5], "between operators": [0.001, 0],
    }  # fmt: skip
    rounds = []
    for number in range(6):
        one = copy.deepcopy(work)
        one["normalization"][0] *= 1 + number / 1000  # not quite the same each time
        seconds = step_ms * (1 + number / 1000) / 1000
        clocks = {"step_seconds": seconds * (1 + number % 2), "processor_seconds": seconds, "watched_seconds": 0.110}
        rounds.append({**clocks, "work": one})
    return {"label": label, "overrides": [label], "flops_per_step": flops, "rounds": rounds}


def content(*variants, kind="cpu"):
    made = {
        "device": "Some processor", "kind": kind, "threads": 1, "load": 0.5, "precision": "fp32",
        "versions": {"torch": "2.13.0"}, "git": None, "steps": 8,
    }  # fmt: skip
    return {"schema": 1, "made": made, "variants": list(variants)}


LAYER, RMS = variant("norm=layernorm", 30, 100), variant("norm=rmsnorm", 60, 120, operations=1)


def test_shares_are_of_the_classes_that_compute():
    one = step_profile.from_json(content(LAYER)).variants[0]
    assert one.operation_share("contraction") == 0.9 and one.operation_share("normalization") == 0.02
    assert one.time_share("normalization") == pytest.approx(0.3, rel=0.01)
    assert one.step_share("optimizer") == pytest.approx(4 / 110) and one.counted_ratio == 1
    header, *rows = rendered.cells(one)
    assert [row[0] for row in rows] == list(LAYER["rounds"][0]["work"]) and {len(row) for row in rows} == {len(header)}
    assert rows[1][-1] == "0.17%, 25.5%" and rows[3][-1] == ""


@pytest.mark.parametrize(
    ("first", "second", "kind", "words"),
    [
        (LAYER, RMS, "cpu", ["is slower: 0.50 × (", "does not pay here, although it saves", "composed of several"]),
        (LAYER, RMS, "cuda", ["is slower", "does not pay here, although it saves operations."]),
        (RMS, LAYER, "cpu", ["is faster: 2.00 × (", "pays here"]),
        (LAYER, variant("x", 30, 100), "cpu", ["no difference is detected", "Whether x pays cannot be told"]),
    ],
)
def test_words_need_an_interval(first, second, kind, words):
    found = " ".join(rendered.findings(step_profile.from_json(content(first, second, kind=kind))))
    assert all(word in found for word in words)
    assert kind == "cpu" or "composed" not in found
    few = [{**one, "rounds": one["rounds"][:4]} for one in (first, second)]
    told = " ".join(rendered.findings(step_profile.from_json(content(*few, kind=kind))))
    assert "fewer than 5 rounds give no interval" in told and "faster" not in told and "slower" not in told


def test_steps_are_compared_by_the_processors_time_where_one_thread_works():
    """The clock says twice as long in every second round, of which the processor knows nothing."""
    slow, quick = variant("slow", 30, 120), variant("quick", 30, 100)
    slow["rounds"] = slow["rounds"][1:] + slow["rounds"][:1]
    stored = content(slow, quick)
    found = step_profile.from_json(stored).step_speedup()
    assert found.ratio == pytest.approx(1.2, rel=0.01) and found.low > 1.1
    for change in ({"threads": 2}, {"kind": "cuda"}):
        by_clock = step_profile.from_json({**stored, "made": {**stored["made"], **change}}).step_speedup()
        assert by_clock.low < 1 < by_clock.high


def test_a_disagreement_about_the_operations_is_said():
    one = step_profile.from_json(content(variant("x", 30, 100, flops=80))).variants[0]
    assert "1.125 times as many" in rendered.check_line(one)
    assert "are the" in rendered.check_line(step_profile.from_json(content(LAYER)).variants[0])


def test_a_report_is_made_again_byte_for_byte(tmp_path):
    path = profile.write(content(LAYER, RMS), tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "profile.json").write_bytes((tmp_path / "one" / "profile.json").read_bytes())
    profile.rebuild(tmp_path / "two")
    made, again = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert made == again and sorted(made) == ["profile.json", "report.md", "shares.pdf", "shares.png"]
    assert "| contraction | " in path.read_text()


def test_what_is_no_profile_is_named(tmp_path):
    for text, reason in (("{", "is not a profile"), ('{"schema": 2}', "schema 2, not 1"), ("{}", "is not a profile")):
        (tmp_path / "profile.json").write_text(text)
        with pytest.raises(UserError, match=reason):
            profile.rebuild(tmp_path)
    (tmp_path / "profile.json").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        profile.rebuild(tmp_path)


def test_there_is_a_committed_profile():
    assert "profile-norms" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_profile_is_made_again_byte_for_byte(name, tmp_path):
    committed = {path.name: path.read_bytes() for path in (REPORTS / name).iterdir()}
    (tmp_path / "profile.json").write_bytes(committed["profile.json"])
    profile.rebuild(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(made) == sorted(committed)
    assert [file for file in committed if made[file] != committed[file]] == []
    assert "/" not in json.loads(committed["profile.json"])["made"]["device"]
