"""Killed at any moment, asked again: the same losses and the same weights, bit for bit."""

import os
import random
import signal
import time

import pytest

from tests.faults import faults
from tests.training.standin import folder_of, in_child, result, run, start, wait

SAVING = ("trainer.checkpoint_every=7", "trainer.evaluate_every=15")


UNTOUCHED = {}


@pytest.fixture
def whole(asked):
    """What a run that nothing happens to comes to."""
    if not UNTOUCHED:
        overrides = asked("sweep=whole", *SAVING)
        assert run(overrides).status == "done"
        UNTOUCHED["result"] = result(folder_of(overrides))
    return UNTOUCHED["result"]


@pytest.mark.parametrize(
    "fault",
    [
        faults.at_step(1, signal.SIGKILL),
        faults.at_step(14, signal.SIGKILL),
        faults.at_step(20, signal.SIGKILL),
        faults.at_step(40, signal.SIGKILL),
        faults.in_save(1),
        faults.in_save(3),
        faults.before_rename(1),
        faults.before_rename(3),
        faults.after_rename(3),
        faults.in_evaluation(2, signal.SIGKILL),
        faults.at_the_end(signal.SIGKILL),
    ],
    ids=[
        "step 1", "step 14", "step 20", "last step", "first save", "third save", "first rename", "third rename",
        "pruning", "evaluation", "end",
    ],
)  # fmt: skip
def test_killed(asked, whole, fault):
    overrides = asked(*SAVING)
    folder = folder_of(overrides)
    assert in_child(overrides, fault) == -signal.SIGKILL
    assert folder.read().status == "running"
    assert run(overrides).status == "done"
    assert result(folder) == whole
    assert not list(folder.path.rglob("*.tmp"))


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize(
    "make, saved",
    [
        (lambda number: faults.at_step(17, number), 18),  # noticed at the end of the next step
        (lambda number: faults.in_evaluation(2, number), 15),
        (lambda number: faults.in_evaluation(4, number), 40),
    ],
    ids=["training", "evaluation", "last evaluation"],
)
def test_told_to_stop(asked, whole, number, code, make, saved):
    overrides = asked(*SAVING)
    folder = folder_of(overrides)
    assert in_child(overrides, make(number)) == code
    found = folder.read()
    assert found.status == "preempted" and found.reason == signal.Signals(number).name
    assert (folder.checkpoints / f"step-{saved:08d}.ckpt").exists()
    assert run(overrides).status == "done"
    assert result(folder) == whole
    assert folder.read().attempts == 2 and folder.read().reason == ""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_told_to_stop_while_the_text_is_prepared(asked, number, code):
    overrides = asked()
    assert in_child(overrides, faults.in_preparation(number)) == code
    assert folder_of(overrides).read().status == "preempted"
    assert run(overrides).status == "done"


def test_told_to_stop_after_the_last_step(asked, whole):
    overrides = asked(*SAVING)
    assert in_child(overrides, faults.at_the_end(signal.SIGTERM)) in (0, 143)
    assert run(overrides).status == "done" and result(folder_of(overrides)) == whole


def test_a_result_is_never_taken_back(asked):
    overrides = asked()
    made = run(overrides)
    assert in_child(overrides, faults.in_preparation(signal.SIGTERM)) == 143
    assert folder_of(overrides).read() == made


def test_stopped_many_times_over(asked, whole):
    overrides = asked(*SAVING)
    for step in range(4, 40, 4):
        assert in_child(overrides, faults.at_step(step, signal.SIGTERM)) == 143
    assert run(overrides).status == "done"
    assert result(folder_of(overrides)) == whole


@pytest.mark.slow
def test_killed_at_random_moments(asked, whole):
    overrides = asked(*SAVING)
    choose = random.Random(0)
    for _ in range(20):
        pid = start(overrides)
        time.sleep(choose.uniform(0.05, 0.7))
        os.kill(pid, signal.SIGKILL)
        wait(pid)
    assert run(overrides).status == "done"
    assert result(folder_of(overrides)) == whole


def test_two_processes_never_share_a_run(asked):
    from ablate.training import run as train

    overrides = asked("shape.steps=100000")
    pid = start(overrides)
    try:
        deadline = time.monotonic() + 60
        while not folder_of(overrides).progress.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert train.exit_code(lambda: run(overrides)) == 75
    finally:
        os.kill(pid, signal.SIGTERM)
        assert wait(pid) == 143
