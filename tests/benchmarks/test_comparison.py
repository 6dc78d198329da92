"""Contestants in processes of their own: they take turns, and are refused where they do other work or fail."""

from __future__ import annotations

import tempfile

import pytest

from benchmarks.contestants import comparison, roster
from benchmarks.contestants.comparison import Setting
from benchmarks.contestants.roster import Contestant

SETTING = Setting("gpt2", "eager", rounds=3, warm_up=3, quick=True)
PEER = Contestant("peer", "peer", "peer")
OTHER = Contestant("other", "other", "other", other_work="no positions")
CONVERTED = Contestant("converted", "converted", "converted", converted="scores are scaled")


def test_two_processes_take_turns():
    layers = roster.find("gpt2", "torch.nn layers")  # which needs torch alone
    first, second = comparison.compare(SETTING, [layers, layers])
    assert first["our_speed"] == [1.0, 1.0, 1.0] and second["loss_differences"] == [0, 0, 0]
    for one in (first, second):
        assert 0 < one["imports_mib"] < one["peak_mib"] and one["tokens_per_second"] > 0
        assert 0 < one["our_speed"][1] <= one["our_speed"][0] <= one["our_speed"][2]


def test_a_process_that_fails_is_named_with_its_last_line():
    with (
        tempfile.TemporaryFile("w+") as log,
        pytest.raises(RuntimeError, match=r"peer has failed: StopIteration"),
    ):
        comparison.Runner(PEER, SETTING, log)


@pytest.mark.parametrize(
    "contestant, differences, fault",
    [
        (PEER, [5e-5, 1e-6, 0.0], None),
        (PEER, [2e-4, 0.0, 0.0], "peer in step 1 differs by 0.0002 nats"),
        (PEER, [0.0, 0.0, 0.3], "peer in step 3 differs by 0.3 nats"),
        (PEER, [float("nan"), 0.0, 0.0], "peer in step 1 differs by nan"),
        (CONVERTED, [0.0, 0.1, 0.1], None),
        (CONVERTED, [0.1, 0.1, 0.1], "converted in step 1"),
        (OTHER, [0.5, 0.5, 0.5], None),
    ],
)
def test_other_losses_are_a_fault(contestant, differences, fault):
    found = list(comparison.faults({contestant.name: differences}, [contestant]))
    assert len(found) == bool(fault) and (fault is None or fault in found[0])


def test_what_is_not_fetched_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison.sources, "FOLDER", tmp_path)
    (tmp_path / "litgpt").mkdir()
    here, absent = comparison.present("llama")
    assert "litgpt" in [one.name for one in here] and absent == []
    assert [one.name for one in comparison.present("gpt2")[1]] == ["nanoGPT"]
