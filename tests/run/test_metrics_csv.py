"""What metrics.csv says against a record."""

from dataclasses import replace

import pytest

from ablate.run.metrics_csv import HeldOutLoss, Metrics, contradiction
from ablate.run.record import Loss, Record

LINES = """step,time,kind,loss,bits_per_byte
1,0.1,train,7.5,
5,0.2,validation,6.25,2.5
9,0.3,train,6.5,
10,0.4,validation,6.000001,2.4
11,0.5,train,5.75,
"""
RECORD = Record(
    schema=1, sweep="s", row="r", seed=0, status="done", step=10,
    loss=Loss(early=6.25, final=6.000001, early_step=5, final_step=10),
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    (tmp_path / "metrics.csv").write_text(LINES)
    return tmp_path / "metrics.csv"


def test_the_held_out_losses_and_the_last_step(path):
    held_out = {5: HeldOutLoss(6.25, 2.5), 10: HeldOutLoss(6.000001, 2.4)}
    assert Metrics.read(path) == Metrics(held_out, 11)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"final": 6.000003}, ""),  # as it is printed
        ({"final": 6.0001}, "has a final loss of 6.0001, and metrics.csv has 6 at step 10"),
        ({"final": 5.5}, "has a final loss of 5.5, and metrics.csv has 6 at step 10"),
        ({"early": 6.0}, "has an early loss of 6, and metrics.csv has 6.25 at step 5"),
        ({"final": 5.5, "final_step": None}, "has a final loss of 5.5, and metrics.csv has 6 at step 10"),
        ({"final": 5.5, "final_step": 9}, ""),  # of which the file says nothing: training is no held-out loss
        ({"early": None, "early_step": None}, ""),
    ],
)
def test_a_loss_is_held_against_that_of_its_step(path, changes, problem):
    assert contradiction(replace(RECORD, loss=replace(RECORD.loss, **changes)), path) == problem


def test_a_file_that_ends_early_speaks_against_a_run_that_is_done(path):
    assert contradiction(replace(RECORD, step=11), path) == ""
    assert contradiction(replace(RECORD, step=12), path) == "says done after 12 steps, and metrics.csv ends at step 11"
    assert contradiction(replace(RECORD, step=12, status="preempted"), path) == ""
    assert contradiction(replace(RECORD, loss=None), path) == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-12],  # within its last line
        lambda text: text.replace("9,0.3", "9,\0" + "0.3"),
        lambda text: text + "twelve,0.6,validation,nought,\n",
        lambda text: text + "12,0.6\n",
        lambda text: text.replace("5,0.2,validation,6.25,2.5", "5,0.2,validation,6.25,many"),
    ],
)
def test_a_damaged_line_costs_no_other(path, damage):
    path.write_text(damage(LINES))
    found = Metrics.read(path)
    assert found.held_out[10].loss == 6.000001 and found.held_out[5].loss == 6.25 and found.last >= 10
    assert contradiction(RECORD, path) == ""


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"step,kind,loss\n", b"1,2,3\n", b'step,"' + b"x" * 200_000])
def test_a_file_without_one_line_to_read_says_nothing(path, content):
    path.write_bytes(content)
    assert Metrics.read(path) is None and contradiction(RECORD, path) == ""
    path.unlink()
    assert Metrics.read(path) is None and contradiction(RECORD, path) == ""
