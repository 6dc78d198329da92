"""Runs on text, from documents to records; in one process and in two."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from ablate.config import merge
from ablate.errors import UserError
from ablate.process_tree import descendants, parent_of, variable
from tests.evaluation.zero_shot import made_up
from tests.faults import faults
from tests.tasks import files
from tests.training.standin import folder_of, in_child, result, run

SMALL = [
    "shape.d_model=24", "shape.n_layers=1", "shape.n_heads=2", "shape.head_dim=8", "shape.d_ff=32",
    "shape.vocab_size=768", "shape.length=32", "shape.batch_tokens=256", "shape.steps=30", "trainer=cpu",
    "trainer.log_every=5", "data=local", "evaluation.heldout.tokens=1024", "row=small",
]  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A file of documents, and the folder in which their corpus is made once."""
    folder = tmp_path_factory.mktemp("text")
    choose = random.Random(0)
    words = ["".join(choose.choices("abcdefghijklmnop", k=choose.randint(2, 8))) for _ in range(300)]
    documents = [" ".join(choose.choices(words, k=choose.randint(20, 300))) for _ in range(300)]
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return [f"data.files=[{folder / 'text.jsonl'}]", f"paths.data={folder / 'corpora'}"]


@pytest.fixture
def asked(text, tmp_path):
    """`asked(*overrides)`: the overrides of a small run on the text."""
    return lambda *more: merge(SMALL, text, [f"paths.runs={tmp_path / 'runs'}"], more)


def losses(folder):
    lines = [line.split(",") for line in folder.metrics.read_text().splitlines()[1:]]
    return [(int(line[0]), line[5], float(line[2])) for line in lines]


def test_a_run_on_text(asked):
    found = run(asked())
    assert found.status == "done" and found.loss.final < found.loss.early < 7
    assert found.data.name == "local" and len(found.data.sha256) == 64 and found.data.tokens > 10000
    assert found.parameters.total > 768 * 24 and found.ops_paper > 0 and found.flops_per_step > 0
    assert found.tokens_per_step == 256 and found.tokens_per_second > 0
    assert 0 < found.loss.bits_per_byte < 10 and found.tags == ("data:local",)


def test_killed_and_resumed_on_text(asked):
    whole, killed = asked("sweep=whole"), asked("sweep=killed", "trainer.checkpoint_every=8")
    run(whole)
    assert in_child(killed, faults.at_step(20, signal.SIGKILL)) == -signal.SIGKILL
    assert run(killed).status == "done"
    assert result(folder_of(killed)) == result(folder_of(whole))


def test_another_text_is_another_run(asked, tmp_path):
    run(asked())
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": f"word {number} " * 300}) + "\n" for number in range(100)))
    with pytest.raises(UserError, match="already contains a run with a different configuration: .*data.files was"):
        run(asked(f"data.files=[{other}]"))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("of_two", [[], ["trainer.micro_batch=2"]], ids=["", "that accumulate"])
def test_two_processes_are_one_with_accumulation(asked, of_two):
    two = asked("sweep=two", "trainer.devices=2", "dropout=0.1", *of_two)
    one = asked("sweep=one", "dropout=0.1", *(of_two or ["trainer.micro_batch=4"]))
    assert run(two).status == "done" and run(one).status == "done"
    for (step, kind, loss), (other_step, other_kind, other) in zip(
        losses(folder_of(two)), losses(folder_of(one)), strict=True
    ):
        assert (step, kind) == (other_step, other_kind) and loss == pytest.approx(other, rel=1e-6)
    weights = [torch.load(folder_of(o).checkpoints / "weights.pt", weights_only=True)["state_dict"] for o in (two, one)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-5, atol=1e-6)
    assert folder_of(two).read().hardware.devices == 2
    assert folder_of(two).read().identity == folder_of(one).read().identity


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_that_draw_other_masks_are_another_run(asked):
    one, two = asked("sweep=one", "dropout=0.1"), asked("sweep=two", "dropout=0.1", "trainer.devices=2")
    made = [run(overrides) for overrides in (one, two)]
    assert made[0].loss.final != pytest.approx(made[1].loss.final, rel=1e-5)
    assert made[0].identity != made[1].identity


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_skip_the_same_steps(asked):
    options = ["shape.steps=100", "trainer.skip_spikes=1.5"]  # which noise exceeds, too
    one = asked("sweep=one", "trainer.micro_batch=4", *options)
    two = asked("sweep=two", "trainer.devices=2", "trainer.micro_batch=4", *options)
    made = [run(overrides) for overrides in (one, two)]
    assert made[0].spikes.count == made[1].spikes.count == made[0].spikes.skipped > 0
    assert made[0].loss.final == pytest.approx(made[1].loss.final, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("norm", ["layernorm", "batchnorm_encoder"])
def test_two_processes_stop_and_go_on_together(asked, norm):
    """Running averages are those of both, too: a checkpoint holds one set of them."""
    two = ["trainer.devices=2", f"norm={norm}", *(["trainer.micro_batch=4"] if norm != "layernorm" else [])]
    whole = asked("sweep=whole", *two)
    assert run(whole).status == "done"
    stopped = asked("row=stopped", *two, "trainer.checkpoint_every=8")
    folder = folder_of(stopped)
    process = subprocess.Popen([sys.executable, "-m", "ablate", "train", *stopped])
    deadline = time.monotonic() + 120
    while not list(folder.checkpoints.glob("*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert folder.read().status == "preempted"
    assert run(stopped).status == "done"
    assert losses(folder) == losses(folder_of(whole))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_evaluate_together(asked):
    """At the end of training and later, to the same scores as one process."""
    two, both = ["trainer.devices=2", "sweep=two"], "evaluation=[heldout,by_position]"
    expected = run(asked("sweep=one", "trainer.micro_batch=4", both)).scores["loss_by_position"]
    at_once = run(asked(*two, both)).scores["loss_by_position"]
    plain = run(asked(*two, "row=plain"))
    later = run(asked(*two, "row=plain", both))
    assert plain.downstream == {} and later.loss == plain.loss and later.attempts == 1
    for found in (at_once, later.scores["loss_by_position"]):
        assert found.value == pytest.approx(expected.value, rel=1e-5)
        assert found.curve.ys == pytest.approx(expected.curve.ys, rel=1e-5)
        assert found.items == expected.items and found.source == expected.source
        assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_scores_on_the_way_change_no_bit_of_two_processes_either(asked):
    two, chosen = ["trainer.devices=2", "dropout=0.1"], "evaluation=[heldout,by_position]"
    plain, more = asked("sweep=plain", *two), asked("sweep=more", *two, chosen, "evaluation.by_position.at=[0.2,1]")
    made = [run(overrides) for overrides in (plain, more)]
    assert made[0].status == made[1].status == "done"
    assert result(folder_of(plain)) == result(folder_of(more))
    history = made[1].scores["loss_by_position"].history
    assert history.xs == (6, 30) and history.ys[0] > history.ys[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fine_tuning_on_the_way_trains_a_copy(asked, tmp_path):
    files.write(tmp_path / "tasks" / "CB" / "train.jsonl", files.cb(60))
    files.write(tmp_path / "tasks" / "CB" / "val.jsonl", files.cb(12))
    settings = {
        "data": tmp_path / "tasks", "tasks": "[cb]", "steps": 4, "checkpoint_every": 2, "warmup_steps": 1,
        "target_length": 8, "at": "[0.5,1]",
    }  # fmt: skip
    chosen = [f"evaluation.superglue.{key}={value}" for key, value in settings.items()]
    plain = asked("sweep=plain", "dropout=0.1")
    more = asked("sweep=more", "dropout=0.1", "evaluation=[heldout,superglue]", *chosen)
    made = [run(overrides) for overrides in (plain, more)]
    assert result(folder_of(plain)) == result(folder_of(more))
    assert made[1].scores["superglue"].history.xs == (15, 30)
    assert len({path.name for path in folder_of(more).path.glob("evaluation/*/step-*/*.jsonl")}) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_finished_run_of_two_processes_is_evaluated_and_goes_on_after_a_signal(asked, tmp_path):
    """By the command for it, at the task where it was."""
    for task, items in (("piqa", 6), ("hellaswag", 800)):
        made_up.write(tmp_path / "tasks", task, made_up.rows(task, items))
    run(asked("trainer.devices=2", "topology=causal_decoder", "objective=causal"))
    folder = folder_of(asked())
    before = folder.read()
    words = [
        sys.executable, "-m", "ablate", "evaluate", str(folder.path), "evaluation=zero_shot",
        f"evaluation.zero_shot.data={tmp_path / 'tasks'}", "evaluation.zero_shot.tasks=[piqa,hellaswag]",
        "evaluation.zero_shot.batch_tokens=128",
    ]  # fmt: skip
    process = subprocess.Popen(words)
    deadline = time.monotonic() + 120
    while not list(folder.path.glob("evaluation/*/piqa.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(100) == 143
    assert folder.read() == before and not list(folder.path.glob("evaluation/*/hellaswag.jsonl"))
    (kept,) = folder.path.glob("evaluation/*/piqa.jsonl")
    written = kept.stat().st_mtime_ns
    assert subprocess.run(words, check=False).returncode == 0
    assert kept.stat().st_mtime_ns == written
    assert {"piqa", "hellaswag", "zero_shot"} <= folder.read().scores.keys()
    assert folder.read().loss == before.loss


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_dies_while_a_finished_run_is_evaluated_is_a_failure(asked, tmp_path):
    made_up.write(tmp_path / "tasks", "hellaswag", made_up.rows("hellaswag", 800))
    chosen = ["evaluation=[heldout,zero_shot]", "evaluation.zero_shot.tasks=[hellaswag]"]
    chosen += [f"evaluation.zero_shot.data={tmp_path / 'tasks'}", "evaluation.zero_shot.batch_tokens=128"]
    overrides = asked("topology=causal_decoder", "objective=causal", "trainer.micro_batch=4")
    before = run(overrides)
    words = [sys.executable, "-m", "ablate", "train", *overrides, *chosen, "trainer.devices=2"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    others = []
    while not others and time.monotonic() < deadline:
        time.sleep(0.02)
        if list(folder_of(overrides).path.glob("evaluation/*")):
            others = [pid for pid in descendants(process.pid) if variable(pid, "RANK") == "1"]
    os.kill(others[0], signal.SIGKILL)
    process.communicate(timeout=100)
    assert process.returncode == 1
    assert folder_of(overrides).read() == before


def training_on_two(asked, errors=None):
    """(process, folder) of a run on two devices that takes its steps."""
    overrides = asked("trainer.devices=2", "shape.steps=100000")
    folder = folder_of(overrides)
    process = subprocess.Popen([sys.executable, "-m", "ablate", "train", *overrides], stderr=errors)
    deadline = time.monotonic() + 120
    while not folder.metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process, folder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_process_that_dies_takes_the_others_along(asked):
    process, folder = training_on_two(asked, subprocess.PIPE)
    main = json.loads(folder.progress.read_text())["pid"]
    beside = [pid for pid in descendants(process.pid) if parent_of(pid) == parent_of(main)]
    others = [pid for pid in beside if variable(pid, "RANK") == "1"]
    assert len(others) == 1
    os.kill(others[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    record = folder.read()
    assert record.status == "failed" and record.reason.startswith("process 1 was killed (SIGKILL)")
    assert said.count(b"process 1 was killed (SIGKILL)") == 1 and b"process 0 was" not in said
    assert not os.path.exists(f"/proc/{main}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["block", "model"])
def test_a_compiled_model_trains(asked, how):
    if not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")
    plain, compiled = (
        run(asked("sweep=plain", "shape.steps=5")),
        run(asked("sweep=compiled", "shape.steps=5", f"trainer.compile={how}")),
    )
    assert compiled.loss.final == pytest.approx(plain.loss.final, rel=1e-3)
    weights = torch.load(
        folder_of(asked("sweep=compiled", "shape.steps=5")).checkpoints / "weights.pt", weights_only=True
    )
    assert not any("_orig_mod" in name for name in weights["state_dict"])
