"""Fine-tuning by two processes under torchrun: the same as by one, and stopped together it goes on."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest

from ablate.config import merge
from tests.fine_tuning import tiny
from tests.tasks import files
from tests.training.standin import folder_of, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def asked(tmp_path):
    """Overrides of a run of a few steps on the words of the tasks, which is fine-tuned in slices of 8 examples."""
    text = tmp_path / "text.jsonl"
    documents = [f"cb hypothesis: so premise: {row['premise']} {row['label']}" for row in files.cb(200)]
    text.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    fixed = [
        *tiny.SHAPE, *tiny.SUPERGLUE, "shape.steps=4", "data=local", f"data.files=[{text}]", "dropout=0.1",
        f"paths.data={tmp_path / 'corpora'}", f"paths.runs={tmp_path / 'runs'}", "trainer.micro_batch=8",
        f"evaluation.superglue.data={tiny.superglue(tmp_path / 'tasks')}", "evaluation.heldout.tokens=256",
        "data.validation_share=0.2",
    ]  # fmt: skip
    return lambda *more: merge(fixed, more)


def metrics(overrides):
    """Steps, kinds and losses of the fine-tuning."""
    (path,) = folder_of(overrides).path.glob("evaluation/superglue-*/metrics.csv")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["step"], row["kind"]) for row in rows], [float(row["loss"]) for row in rows]


def test_two_processes_are_one(asked):
    one, two = asked("sweep=one"), asked("sweep=two", "trainer.devices=2")
    expected, found = (run(overrides) for overrides in (one, two))
    steps, losses = metrics(one)
    assert metrics(two)[0] == steps and {kind for _, kind in steps} == {"train", "validation"}
    assert metrics(two)[1] == pytest.approx(losses, rel=1e-3)
    assert expected.scores.keys() == found.scores.keys() and not found.scores_failed
    for name, score in found.scores.items():
        off_by_an_item = 100 / score.items + 1e-6 if score.unit == "%" else 1e-3 * score.value
        assert score.value == pytest.approx(expected.scores[name].value, abs=off_by_an_item)
        assert (score.items, score.chance) == (expected.scores[name].items, expected.scores[name].chance)


def test_two_processes_stop_and_go_on_together(asked):
    more = ["trainer.devices=2", "evaluation.superglue.steps=400", "evaluation.superglue.checkpoint_every=200"]
    stopped = asked("row=stopped", *more)
    folder = folder_of(stopped)
    process = subprocess.Popen([sys.executable, "-m", "ablate", "train", *stopped])
    deadline = time.monotonic() + 120
    while not _is_fine_tuned(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert folder.read().status == "preempted"
    (left,) = folder.path.glob("evaluation/superglue-*/checkpoints/*.ckpt")
    assert 5 <= int(left.stem.removeprefix("step-")) < 200
    done = run(stopped)
    whole = asked("row=whole", *more)
    assert run(whole).scores["superglue"].value == done.scores["superglue"].value
    assert metrics(stopped) == metrics(whole)


def _is_fine_tuned(folder):
    """Whether the first steps of the fine-tuning are logged."""
    return any(path.read_text().count("\n") > 2 for path in folder.path.glob("evaluation/superglue-*/metrics.csv"))
