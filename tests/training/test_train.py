"""One run from its overrides to its record."""

import dataclasses
import json
import os
import re
import signal
import time

import pytest
import torch
import yaml

from ablate.config import compose, resolved
from ablate.config.settling import decided
from ablate.data import build_corpus
from ablate.errors import UserError
from ablate.run import record
from ablate.run.folder import RunFolder
from ablate.study.settled import settled
from ablate.training import callback, fit, metrics
from ablate.training import run as train
from ablate.training.attempt import Attempt
from tests.faults import faults
from tests.run.sealed import sealed
from tests.training.standin import TINY, Corpus, folder_of, in_child, result, run, start, wait

KEYS = (
    "schema sweep row overrides command seed identity identity_schema code status reason versions git hardware data "
    "parameters ops_paper flops_per_step tokens_per_step steps_per_second tokens_per_second mfu peak_memory_bytes "
    "data_wait_fraction loss step finished downstream tags seconds attempts started checksum"
).split()


def test_a_run_leaves_its_folder_and_its_record(asked):
    overrides = asked("sweep=first", "seed=3")
    began = time.monotonic()
    made = run(overrides)
    wall = time.monotonic() - began
    folder = folder_of(overrides)
    assert folder.path.parts[-3:] == ("first", "tiny", "seed-3")
    found = folder.read()
    content = json.loads(folder.record.read_text())
    assert found == made and found.to_json() == content and list(content) == KEYS
    assert content["checksum"] == record.checksum(content) == made.checksum
    assert found.status == "done" and found.reason == "" and found.schema == record.SCHEMA
    assert (found.sweep, found.row, found.seed, found.overrides) == ("first", "tiny", 3, tuple(overrides))
    assert found.steps_per_second.p25 <= found.steps_per_second.median <= found.steps_per_second.p75
    assert found.steps_per_second.exclusive is None and found.mfu is None  # no peak is known of a processor
    assert found.tokens_per_second == pytest.approx(192 * found.steps_per_second.median)
    assert 0 <= found.data_wait_fraction < 1 and found.peak_memory_bytes >= 0  # what so small a model adds
    assert (
        max(float(line.split(",")[1]) for line in folder.metrics.read_text().splitlines()[1:]) < found.seconds <= wall
    )
    loss = found.loss
    assert (loss.early_step, loss.final_step) == (5, 40) and loss.final < loss.early
    assert loss.bits_per_byte > 0 and loss.tokens == 4 * 8 * 8
    assert {path.name for path in folder.checkpoints.iterdir()} == {"weights.pt", "weights.pt.sha256"}
    assert yaml.safe_load(folder.config.read_text())["seed"]["data"] == 3
    assert "done" in folder.log.read_text()
    beat = json.loads(folder.progress.read_text())
    assert beat["steps"] == 40 and {"step", "time", "loss"} <= set(beat)


def test_metrics_have_a_line_every_few_steps_and_the_held_out_losses(asked):
    overrides = asked("trainer.evaluate_every=15")
    loss = run(overrides).loss
    header, *lines = [line.split(",") for line in folder_of(overrides).metrics.read_text().splitlines()]
    assert header == ["step", "time", "loss", "learning_rate", "grad_norm", "kind", "bits_per_byte"]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    train_steps = [int(row["step"]) for row in rows if row["kind"] == "train"]
    validation = {int(row["step"]): float(row["loss"]) for row in rows if row["kind"] == "validation"}
    assert train_steps == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    assert list(validation) == [5, 15, 30, 40]
    assert (validation[5], validation[40]) == (loss.early, loss.final)
    assert all(
        float(row["learning_rate"]) == 0.01 and float(row["grad_norm"]) > 0 for row in rows if row["kind"] == "train"
    )
    times = [float(row["time"]) for row in rows]
    assert times == sorted(times)
    first = [row for row in rows if row["kind"] == "first_steps"]
    assert [int(row["step"]) for row in first] == list(range(1, 41))
    alone = {int(row["step"]): row for row in first}
    for row in rows:
        if row["kind"] == "train":
            assert row["grad_norm"] == alone[int(row["step"])]["grad_norm"]
    losses = [float(alone[step]["loss"]) for step in range(6, 11)]
    assert [float(row["loss"]) for row in rows if row["step"] == "10" and row["kind"] == "train"] == [
        pytest.approx(sum(losses) / 5)
    ]


def test_asking_again_does_nothing(asked):
    overrides = asked()
    first = run(overrides)
    before = folder_of(overrides).record.stat().st_mtime_ns
    assert run(overrides) == first
    assert folder_of(overrides).record.stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_bits_and_another_does_not(asked):
    results = [
        result(folder_of(run(o) and o)) for o in (asked("sweep=a"), asked("sweep=b"), asked("sweep=c", "seed=1"))
    ]
    assert results[0] == results[1]
    assert results[0][1] != results[2][1]


def test_a_folder_of_another_run_is_refused_with_the_keys_that_differ(asked):
    run(asked())
    with pytest.raises(UserError, match="already contains a run with a different config.*trainer.steps was 40, is 41"):
        run(asked("shape.steps=41"))
    assert folder_of(asked()).read().status == "done"


def test_another_number_of_devices_is_another_run_with_dropout_and_the_same_without(asked):
    run(asked())
    with pytest.raises(UserError) as caught:
        run(asked("trainer.devices=2"))
    assert len(str(caught.value).splitlines()) == 1
    assert "trainer.micro_batch was 8, is 4 (the sequences that a device takes at once; set trainer.micro_batch=8" in (
        str(caught.value)
    )
    plain = run(asked("row=plain", "dropout=0"))
    assert run(asked("row=plain", "dropout=0", "trainer.devices=2")) == plain


DEEP = ("shape.n_layers=6", "norm=none", "shape.d_model=48", "shape.d_ff=96")


def test_a_first_loss_far_from_a_uniform_guess_is_said_with_what_helps(asked):
    run(asked(*DEEP, "shape.steps=2"))
    said = folder_of(asked()).log.read_text()
    assert "warning: the first loss is" in said and "a uniform guess has 5.075" in said
    assert "nothing keeps the size of the hidden states with norm=none; residual=rezero, residual=fixup" in said
    run(asked("row=usual", "shape.steps=2"))
    assert "warning" not in folder_of(asked("row=usual")).log.read_text()


def test_a_first_loss_that_is_not_finite_is_said_with_what_helps(asked):
    found = run(asked(*DEEP, "activation=squared_relu", "shape.steps=2"))
    assert found.status == "diverged" and found.reason.startswith("the ") and "at step 1; nothing keeps" in found.reason
    assert "init=gpt2" in found.reason


def test_a_folder_of_a_run_on_other_data_is_refused(asked, monkeypatch):
    run(asked())
    monkeypatch.setattr(Corpus, "sha256", "e" * 64)
    with pytest.raises(UserError) as caught:
        run(asked())
    reason = f"it was trained on different data (data.sha256 was {'f' * 12}, is {'e' * 12})"
    assert f"{folder_of(asked()).path} already contains a run with a different configuration: {reason};" in str(
        caught.value
    )


@pytest.mark.parametrize("written", [{"identity_schema": 1}, {}])
def test_a_run_of_an_older_config_schema_is_refused(asked, written):
    run(asked())
    folder = folder_of(asked())
    content = json.loads(folder.record.read_text())
    del content["checksum"]  # which older records do not have
    assert content.pop("identity_schema") == 3
    folder.record.write_text(json.dumps(content | {"identity": "0" * 16} | written))
    with pytest.raises(
        UserError, match=r"made with an older config schema \(identity.SCHEMA 1, now 3: since 3 held-out text"
    ):
        run(asked())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"seed": 7}, "is of another run"),
        ({"schema": 2}, "cannot be used: has schema 2; this version reads up to 1"),
        ({"status": "paused"}, "cannot be used: status must be one of"),
    ],
)
def test_a_record_of_another_run_or_of_a_newer_version_is_refused_and_left_alone(asked, changes, problem):
    folder = folder_of(asked())
    run(asked())
    content = json.loads(folder.record.read_text()) | changes
    folder.record.write_text(sealed(content))
    before = folder.record.read_text(), folder.metrics.read_text()
    with pytest.raises(UserError, match=f"record.json {problem}.*; move the folder away to run it anew"):
        run(asked())
    assert (folder.record.read_text(), folder.metrics.read_text()) == before


DAMAGES = {
    "no end": lambda text: text[:100],
    "empty": lambda text: "",
    "a lower loss": lambda text: re.sub(r'"final": [0-9.]+', '"final": 1.5', text),
    "no loss": lambda text: json.dumps({**json.loads(text), "loss": None, "checksum": None}),
    "a lower loss and no checksum": lambda text: re.sub(
        r'"checksum": "\w+"', '"checksum": null', re.sub(r'"final": [0-9.]+', '"final": 1.5', text)
    ),
}


NOT_REBUILT = (
    "versions git hardware steps_per_second tokens_per_second peak_memory_bytes data_wait_fraction finished seconds "
    "attempts started"
).split()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("keep", ["weights", "none", "all"])
def test_a_damaged_record_is_rebuilt_or_the_run_made_again(asked, damage, keep, capsys):
    overrides = asked(f"keep_checkpoints={keep}")
    whole = run(overrides)
    folder = folder_of(overrides)
    damaged = DAMAGES[damage](folder.record.read_text())
    folder.record.write_text(damaged)
    assert folder.examine().is_damaged
    made = run(overrides)
    assert folder.read() == made and made.status == "done"
    assert (made.loss.final, made.loss.early, made.identity) == (whole.loss.final, whole.loss.early, whole.identity)
    assert (made.parameters, made.step, made.data) == (whole.parameters, whole.step, whole.data)
    said = capsys.readouterr().out
    if keep == "none":
        kept = folder.path.with_name("seed-0.replaced-1") / "record.json"
        assert "moved to seed-0.replaced-1, the run is made again" in said and not made.rebuilt
        assert kept.with_name("metrics.csv").exists() and not kept.with_name("lock").exists()
    else:
        kept = folder.path / "record.json.damaged-1"
        assert "it is rebuilt from metrics.csv and the weights" in said
        assert made.rebuilt.startswith("record.json ") and made.rebuilt.endswith("the weights and the config")
        known, before = made.to_json(), whole.to_json()
        unlike = {key for key in before | known if known.get(key) != before.get(key)}
        assert unlike == {*NOT_REBUILT, "rebuilt", "checksum", "loss"}
        assert {known.get(key) for key in NOT_REBUILT} == {None}
        assert known["loss"] == before["loss"] | {"tokens": None, "bytes": None}
    assert kept.read_text() == damaged
    assert run(overrides) == made


@pytest.mark.parametrize("keep", ["weights", "none", "all"])
def test_a_missing_record_is_rebuilt_or_the_run_made_again(asked, keep, capsys):
    overrides = asked(f"keep_checkpoints={keep}")
    whole, folder = run(overrides), folder_of(overrides)
    metrics = folder.metrics.read_text()
    folder.record.unlink()
    made = run(overrides)
    said = capsys.readouterr().out
    assert folder.read() == made and made.status == "done"
    assert (made.loss.final, made.loss.early, made.identity) == (whole.loss.final, whole.loss.early, whole.identity)
    if keep == "none":
        assert "record.json is missing beside metrics.csv; moved to seed-0.replaced-1, the run is made again" in said
        assert folder.path.with_name("seed-0.replaced-1").joinpath("metrics.csv").read_text() == metrics
    else:
        assert "weights.pt; it is rebuilt from metrics.csv and the weights" in said and made.rebuilt
        assert folder.metrics.read_text() == metrics and said.count("step 40/40") == 1
    assert run(overrides) == made


def test_a_missing_record_of_a_stopped_run_costs_no_step(asked, capsys):
    assert in_child(asked(), faults.at_step(20, signal.SIGTERM)) == 143
    folder_of(asked()).record.unlink()
    assert run(asked()).status == "done"
    said = capsys.readouterr().out
    assert "missing beside checkpoints/step-00000021.ckpt; the run goes on from its checkpoint" in said
    assert "resumed at step 21" in said


def test_a_missing_record_of_another_config_is_refused(asked):
    run(asked())
    folder_of(asked()).record.unlink()
    with pytest.raises(UserError, match="norm._target_ was"):
        run(asked("norm=rmsnorm"))
    assert not folder_of(asked()).record.exists() and folder_of(asked()).weights.exists()


def test_weights_of_another_run_rebuild_nothing(asked):
    run(asked("sweep=other", "seed=1"))
    run(asked())
    folder, other = folder_of(asked()), folder_of(asked("sweep=other", "seed=1"))
    for name in ("weights.pt", "weights.pt.sha256"):
        (folder.checkpoints / name).write_bytes((other.checkpoints / name).read_bytes())
    folder.record.write_text("{")
    assert run(asked()).rebuilt == "" and folder.path.with_name("seed-0.replaced-1").exists()


def test_a_damaged_record_of_a_stopped_run_costs_no_step(asked, capsys):
    assert in_child(asked(), faults.at_step(20, signal.SIGTERM)) == 143
    folder = folder_of(asked())
    folder.record.write_text("{")
    made = run(asked())
    assert made.status == "done" and "resumed at step 21" in capsys.readouterr().out
    assert (folder.path / "record.json.damaged-1").read_text() == "{"


def test_a_damaged_record_of_another_config_is_refused(asked):
    run(asked())
    folder = folder_of(asked())
    folder.record.write_text("{")
    with pytest.raises(UserError, match="norm._target_ was"):
        run(asked("norm=rmsnorm"))
    assert folder.record.read_text() == "{" and not folder.path.with_name("seed-0.replaced-1").exists()


def test_a_mistake_or_a_fault_does_not_write_over_a_damaged_record(asked, monkeypatch):
    run(asked())
    folder = folder_of(asked())
    folder.record.write_text('{"status": "done"')
    for error in (UserError("no such text"), OSError("the text is gone")):

        def prepare(cfg, progress=None, error=error):
            raise error

        monkeypatch.setattr(build_corpus, "prepare", prepare)
        if isinstance(error, UserError):
            with pytest.raises(UserError, match="no such text"):
                run(asked())
        else:
            assert (run(asked()).status, folder.record.read_text()) == ("failed", '{"status": "done"')
    assert folder.record.read_text() == '{"status": "done"'


def test_a_fault_does_not_write_over_a_result(asked, monkeypatch):
    run(asked())
    written = folder_of(asked()).record.read_text()

    def prepare(cfg, progress=None):
        raise RuntimeError("the text is gone")

    monkeypatch.setattr(build_corpus, "prepare", prepare)
    assert run(asked()).status == "failed" and folder_of(asked()).record.read_text() == written


def test_seconds_are_those_of_all_attempts_the_killed_ones_too(asked):
    overrides = asked("trainer.checkpoint_every=5")

    def slow_until_killed():
        faults.at_step(20, signal.SIGSTOP)()

    pid = start(overrides, slow_until_killed)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    folder = folder_of(overrides)
    beat = json.loads(folder.progress.read_text())
    folder.progress.write_text(json.dumps({**beat, "elapsed": 1000.0}))
    os.kill(pid, signal.SIGKILL)
    assert wait(pid) == -signal.SIGKILL
    assert 1000 < run(overrides).seconds < 1100
    assert 1000 < folder.read().seconds < 1100


def test_keys_of_other_versions_outlive_an_attempt(asked):
    overrides = asked("trainer.checkpoint_every=7")
    assert in_child(overrides, faults.at_step(20, signal.SIGTERM)) == 143
    folder = folder_of(overrides)
    content = json.loads(folder.record.read_text())
    content = {"newer": [1], **content, "loss": None}
    folder.record.write_text(sealed(content))
    assert run(overrides).status == "done"
    content = json.loads(folder.record.read_text())
    assert content["newer"] == [1] and list(content) == ["newer", *KEYS]


def test_a_run_that_goes_on_on_another_kind_of_device_says_so(asked):
    overrides = asked("trainer.checkpoint_every=7")
    assert in_child(overrides, faults.at_step(20, signal.SIGTERM)) == 143
    folder = folder_of(overrides)
    found = folder.read()
    folder.write(dataclasses.replace(found, hardware=dataclasses.replace(found.hardware, kind="cuda")))
    assert run(overrides).status == "done"
    assert "warning: begun on cuda, now trains on cpu" in folder.log.read_text()


def test_a_stopped_run_is_not_touched_by_who_asks_for_another(asked):
    assert in_child(asked(), faults.at_step(20, signal.SIGTERM)) == 143
    folder = folder_of(asked())
    before = folder.read(), folder.config.read_text(), sorted(path.name for path in folder.checkpoints.iterdir())
    with pytest.raises(UserError, match="norm._target_ was"):
        run(asked("norm=rmsnorm"))
    assert before == (
        folder.read(),
        folder.config.read_text(),
        sorted(path.name for path in folder.checkpoints.iterdir()),
    )


def test_settings_without_effect_do_not_matter(asked):
    first = run(asked())
    assert run(asked("trainer.log_every=3", "keep_checkpoints=all")) == first


@pytest.mark.parametrize(
    "keep, kept", [("none", set()), ("weights", {"weights.pt"}), ("all", {"weights.pt", "step-00000040.ckpt"})]
)
def test_keep_says_what_stays(asked, keep, kept):
    overrides = asked(f"keep_checkpoints={keep}", "trainer.checkpoint_every=16")
    run(overrides)
    files = {path.name for path in folder_of(overrides).checkpoints.glob("*") if path.suffix != ".sha256"}
    assert kept <= files and (keep == "all" or files == kept)


def test_kept_weights_are_those_of_the_model(asked):
    from ablate.config import build_model
    from ablate.training.checkpoint import load

    overrides = asked()
    found = run(overrides)
    kept = load(folder_of(overrides).weights)
    assert kept["identity"] == found.identity and kept["step"] == 40
    model = build_model(compose(overrides))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model.load_state_dict(kept["state_dict"])
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_accumulation_makes_the_same_batch(asked):
    whole = run(asked("sweep=whole", "dropout=0")).loss
    parts = run(asked("sweep=parts", "dropout=0", "trainer.micro_batch=2")).loss
    assert parts.early == pytest.approx(whole.early, rel=1e-5)
    assert parts.final == pytest.approx(whole.final, rel=1e-3)


@pytest.mark.parametrize(
    "override, told",
    [
        ("trainer.micro_batch=3", "8 sequences"),
        ("trainer.global_batch_tokens=100", "must be a multiple of objective.length=16"),
        ("trainer.accelerator=gpu", "no CUDA device"),
    ],
)
def test_what_cannot_be_made_is_refused_in_a_line(asked, override, told, capsys):
    if torch.cuda.is_available() and "gpu" in override:
        pytest.skip("there is one")
    overrides = asked(override)
    assert train.exit_code(lambda: run(overrides)) == 2
    told_lines = capsys.readouterr().err.strip().splitlines()
    assert len(told_lines) == 1 and told_lines[0].startswith("ablate: ") and told in told_lines[0]


def test_fewer_gpus_than_asked_for_are_refused(monkeypatch):
    from ablate.training.device import device_type

    for there, devices, accelerator, kind in ((2, 2, "auto", "cuda"), (2, 2, "gpu", "cuda"), (2, 4, "cpu", "cpu")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: there)  # noqa: B023
        cfg = compose([f"trainer.devices={devices}", f"trainer.accelerator={accelerator}"])
        assert device_type(cfg) == kind
    with pytest.raises(UserError, match="trainer.devices=4: there are 2 CUDA devices here"):
        device_type(compose(["trainer.devices=4"]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_type(compose(["trainer.devices=4"])) == "cpu"


def test_several_nodes_are_started_by_torchrun(tmp_path):
    from ablate.training import processes

    with pytest.raises(UserError, match="trainer.nodes=2: start it on each node with torchrun --nnodes 2"):
        processes.launch(compose(["trainer.nodes=2"]), {}, tmp_path)


def test_bf16_trains_in_float32_weights(asked):
    overrides = asked("trainer.precision=bf16")
    assert run(overrides).loss.final < 5.1
    weights = torch.load(folder_of(overrides).checkpoints / "weights.pt", weights_only=True)["state_dict"]
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


def test_an_error_is_told_in_the_record(asked, monkeypatch):
    from tests.training.standin import Batches

    def fail(self, step, index, count):
        raise RuntimeError("the shelf\nfell over")

    monkeypatch.setattr(Batches, "micro", fail)
    overrides = asked()
    assert train.exit_code(lambda: run(overrides)) == 1
    assert folder_of(overrides).read().reason == "RuntimeError: the shelf fell over"
    assert "Traceback" in folder_of(overrides).log.read_text()


def test_a_failed_run_is_begun_again(asked):
    from tests.training.standin import Batches

    def stumble():
        make = Batches.make

        def fail(self, *key):
            if key == (0, 20):
                raise MemoryError
            return make(self, *key)

        Batches.make = fail

    overrides = asked("trainer.checkpoint_every=7")
    assert in_child(overrides, stumble) == 1
    assert "out of memory" in folder_of(overrides).read().reason
    assert run(overrides).status == "done" and folder_of(overrides).read().attempts == 2
    whole = asked("sweep=whole")
    run(whole)
    assert result(folder_of(overrides))[:2] == result(folder_of(whole))[:2]


def test_tags_are_the_axes(asked):
    from ablate.training import record_fields

    assert record_fields.tags(["norm=rmsnorm", "seed=3", "shape=micro", "shape.steps=4", "activation=swiglu"]) == (
        "norm:rmsnorm",
        "activation:swiglu",
    )


def test_what_any_process_died_of_first_is_told(monkeypatch, tmp_path):
    """The one that writes learns of it only as of a connection that is closed."""
    cfg, folder = compose([*TINY, f"paths.runs={tmp_path}"]), RunFolder(tmp_path / "run")
    folder.path.mkdir()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")

    def dies(process, error):
        def work(interruption):
            raise error

        monkeypatch.setenv("RANK", str(process))
        Attempt(cfg, [], "ablate train", folder)._guard(work)

    dies(1, MemoryError("no room"))
    time.sleep(0.01)
    dies(0, RuntimeError("Connection closed by peer"))
    assert folder.read().reason == "RuntimeError: Connection closed by peer"
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    found = Attempt(cfg, [], "ablate train", folder).after_processes(1)
    assert found.status == "failed" and found.reason.startswith("process 1: out of memory (no room)")
    folder.forget_failures()
    assert folder.failure() == ""


def test_lines_and_heartbeats_say_how_far_it_is(asked, monkeypatch):
    monkeypatch.setattr(callback, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(metrics, "BEAT_SECONDS", 0.0)
    overrides = asked()
    run(overrides)
    folder = folder_of(overrides)
    said = re.findall(r"step (\d+)/40  loss (\d+\.\d{4})(  .* steps/s  \d+:\d\d left)?$", folder.log.read_text(), re.M)
    assert [int(step) for step, _, _ in said] == [*range(1, 41)] and said[-1][2]
    rows = [line.split(",") for line in folder.metrics.read_text().splitlines() if ",train," in line]
    logged = {int(row[0]): float(row[2]) for row in rows}
    last = {step: max(at for at in logged if at <= step) for step in range(1, 41)}  # the last mean that was logged
    assert [float(loss) for _, loss, _ in said] == pytest.approx([logged[last[n]] for n in range(1, 41)], abs=1e-4)
    beat = json.loads(folder.progress.read_text())
    assert (beat["step"], beat["steps"], beat["loss"]) == (40, 40, pytest.approx(logged[40], abs=1e-12))


def test_a_run_is_settled_where_nothing_is_left_to_do(asked):
    """What the process that starts others asks before it does."""

    def is_settled(overrides):
        folder = folder_of(overrides)
        with folder.lock():
            return Attempt(settled(compose(overrides)), overrides, "ablate train", folder).is_settled()

    more = asked("evaluation=[heldout,by_position]", "evaluation.by_position.bins=4")
    assert not is_settled(asked())
    run(asked())
    assert is_settled(asked()) and not is_settled(more)
    run(more)
    assert is_settled(more)


@pytest.mark.parametrize("is_worker", [False, True])
def test_a_process_that_torchrun_started_takes_its_place_from_there(is_worker, tmp_path, monkeypatch):
    from ablate.training.lightning import LightningEnvironment, TorchElasticEnvironment

    cfg = compose([*TINY, f"paths.runs={tmp_path}"])
    if is_worker:
        for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
            monkeypatch.setenv(name, value)
    trainer = fit.make_trainer(cfg, "cpu", RunFolder(tmp_path), [])
    kind = TorchElasticEnvironment if is_worker else LightningEnvironment
    assert type(trainer._accelerator_connector.cluster_environment) is kind


def test_the_record_says_by_what_auto_was_decided(asked, monkeypatch):
    made = run(asked("trainer.compile=auto", "row=auto"))
    assert made.decided == {"trainer.compile": "none, by rule: model on a GPU from 1000 steps, else none"}
    assert "decided" not in json.loads(folder_of(asked()).record.read_text() if run(asked()) else "")


def test_and_where_earlier_runs_decided_it():
    config = resolved(compose([*TINY, "trainer.compile=block"]))
    assert decided(config, ["trainer.compile=auto"]) == {"trainer.compile": "block, by earlier runs, which have it so"}
    assert decided(config, ["trainer.compile=block"]) == decided(config, []) == {}
