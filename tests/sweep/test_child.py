"""What a job does in its own process, called in this one: what the driver sends, and the file that it reads back."""

import errno
import json
import os
import sys
import time

import pytest

from ablate import orphans
from ablate.config import compose_resolved, restored
from ablate.config.batch import share
from ablate.data import build_corpus
from ablate.errors import UserError
from ablate.footprint import footprint
from ablate.sweep import child, fork_server
from ablate.training import processes, run, speed
from tests.training.standin import Corpus, folder_of


@pytest.fixture
def result(tmp_path):
    return tmp_path / "result.json"


def test_prepare_tells_the_hash_of_each_corpus(asked, result):
    config = compose_resolved(asked())
    assert child.prepare({"rows": {"tiny": config}, "configs": [config, config], "result": str(result)}) == 0
    assert json.loads(result.read_text()) | {"texts": 0} == {"sha256": [Corpus.sha256] * 2, "notes": [], "texts": 0}


def test_prepare_says_which_rows_do_not_fit_on_a_gpu_beside_one_another(asked, result):
    configs = [compose_resolved(asked("shape.vocab_size=1000", f"shape.d_model={width}")) for width in (16, 64)]
    needed = [footprint(restored(config)).of(share(restored(config)).micro_batch) for config in configs]
    rows = dict(zip(("narrow", "wide"), configs, strict=True))
    job = {"rows": rows, "configs": [], "result": str(result), "sharing": {"runs": 2, "bytes": needed[1] + needed[0]}}
    assert child.prepare(job) == 0
    (note,) = json.loads(result.read_text())["notes"]
    assert note.startswith("wide: by estimate a run needs 0.0 GB, 2 on a device") and note.endswith(
        "jobs_per_device=1 fits"
    )
    assert child.prepare({**job, "sharing": {"runs": 2, "bytes": needed[0] // 2}}) == 0
    assert "not even one fits" in json.loads(result.read_text())["notes"][0]


def test_prepare_names_every_row_that_cannot_be_built_and_reads_no_text(asked, result, monkeypatch, capsys):
    monkeypatch.setattr(build_corpus, "prepare", lambda *_, **__: pytest.fail("it prepares the text"))
    good, bad = compose_resolved(asked()), compose_resolved(asked("attention=grouped_query"))
    bad["attention"]["n_kv_heads"] = 3
    job = {"rows": {"one": bad, "good": good, "two": bad}, "configs": [good], "result": str(result)}
    assert child.prepare(job) == UserError.exit_code
    errors = json.loads(result.read_text())["errors"]
    assert [line.partition(":")[0] for line in errors] == ["one", "two"]
    assert all(line in capsys.readouterr().err for line in errors[:1])


def test_prepare_refuses_what_an_evaluation_cannot_do_once_for_all_rows(asked, result, monkeypatch, tmp_path):
    monkeypatch.setattr(build_corpus, "prepare", lambda *_, **__: pytest.fail("it prepares the text"))
    chosen = ["evaluation=[heldout,zero_shot]", f"evaluation.zero_shot.data={tmp_path}", "topology=causal_decoder"]
    chosen += ["evaluation.zero_shot.tasks=[piqa]", "objective=causal"]
    (tmp_path / "piqa.jsonl").write_text("{}\n")
    one, two = compose_resolved(asked(*chosen)), compose_resolved(asked(*chosen, "norm=rmsnorm"))
    job = {"rows": {"one": one, "two": two}, "configs": [one], "result": str(result)}
    assert child.prepare(job) == UserError.exit_code
    (error,) = json.loads(result.read_text())["errors"]
    assert error.startswith("one: ") and "piqa.jsonl:1: has no field 'goal'" in error


def test_prepare_tells_why_a_corpus_is_refused(asked, result, monkeypatch):
    def refuse(*_, **__):
        raise UserError("text.jsonl, line 3: broken")

    monkeypatch.setattr(build_corpus, "prepare", refuse)
    config = compose_resolved(asked())
    assert child.prepare({"rows": {"tiny": config}, "configs": [config], "result": str(result)}) == 2
    assert json.loads(result.read_text()) == {"errors": ["text.jsonl, line 3: broken"]}


def test_train_trains_and_returns_the_exit_code(asked):
    overrides = asked()
    job = {"config": compose_resolved(overrides), "overrides": overrides, "command": "ablate train row=tiny"}
    assert child.train(job) == 0
    record = folder_of(overrides).read()
    assert (record.status, record.command, list(record.overrides)) == ("done", job["command"], overrides)
    other = {**job, "config": compose_resolved(asked("activation=gelu"))}
    assert child.train(other) == UserError.exit_code


def test_measure_tells_the_median_speed(asked, tmp_path, result):
    scratch = tmp_path / "scratch"
    job = {"config": compose_resolved(asked()), "scratch": str(scratch), "seconds": 0.1, "result": str(result)}
    assert child.measure(job) == 0
    assert json.loads(result.read_text())["steps_per_second"] > 0
    assert (scratch / "metrics.csv").exists() and not list(scratch.rglob("record.json"))


def finds_the_disk_full(folder):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder)


def test_a_full_disk_is_one_line(tmp_path, capsys):
    assert fork_server.call("tests.sweep.test_child:finds_the_disk_full", str(tmp_path), log=None) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ablate: {tmp_path}: ") and "has no room left" in line


def test_try_out_tells_how_long_the_parts_of_a_run_take(asked, tmp_path, result):
    asked_at = time.monotonic() - 100.0
    job = {"config": compose_resolved(asked()), "scratch": str(tmp_path / "scratch"), "seconds": 0.1, "asked": asked_at}
    assert child.try_out({**job, "result": str(result)}) == 0
    found = json.loads(result.read_text())
    assert 100.0 < found["start"] < time.monotonic() - asked_at
    assert found["step"] > 0 and found["evaluation"] > 0 and found["save"] > 0 and not found["scores"]
    assert not list(tmp_path.rglob("record.json"))


def test_try_out_takes_the_evaluations_besides_and_waits_for_none_too_long(asked, tmp_path, result, monkeypatch):
    more = asked("evaluation=[heldout,by_position]", "evaluation.by_position.tokens=256")
    job = {"config": compose_resolved(more), "seconds": 0.1, "asked": 0.0, "result": str(result)}
    assert child.try_out({**job, "scratch": str(tmp_path / "one")}) == 0
    found = json.loads(result.read_text())
    assert found["scores"]["by_position"] > 0 and not found["cut"]
    monkeypatch.setattr(speed, "LONGEST_EVALUATION", -1.0)
    assert child.try_out({**job, "scratch": str(tmp_path / "two")}) == 0
    assert json.loads(result.read_text())["cut"] == ["by_position"]


@pytest.mark.parametrize("is_main", [True, False])
def test_of_several_processes_one_tells_the_speeds(is_main, asked, result, monkeypatch):
    monkeypatch.setattr(processes, "is_main", lambda: is_main)
    monkeypatch.setattr(run, "measure", lambda *given: {"p25": 2.0, "median": 3.0, "p75": 4.0})
    monkeypatch.setattr(speed, "try_out", lambda *given: speed.Trial(began=9.0, step=0.5, evaluation=0.25))
    job = {"config": compose_resolved(asked()), "scratch": "s", "seconds": 1, "asked": 5.0, "result": str(result)}
    for call, found in (
        (child.measure, {"steps_per_second": 3.0}),
        (
            child.try_out,
            {"start": 4.0, "step": 0.5, "evaluation": 0.25, "save": 0.0, "scores": {}, "cut": []},
        ),
    ):
        assert call(job) == 0
        assert (json.loads(result.read_text()) if is_main else result.exists()) == (found if is_main else False)


@pytest.mark.parametrize(("environment", "told"), [({}, 0), ({"SLURM_JOB_ID": "7"}, 1)])
def test_a_job_of_slurm_waits_for_its_mirror(environment, told, asked, monkeypatch):
    calls = []
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(run, "tell_mirrored", calls.append)
    overrides = asked()
    job = {"config": compose_resolved(overrides), "overrides": overrides, "command": "ablate sweep"}
    assert child.train(job) == 0 and len(calls) == told
    monkeypatch.setattr(run, "run", lambda *given: (_ for _ in ()).throw(UserError("no")))
    assert child.train(job) == 2 and len(calls) == told


def gives_back(argument):
    return argument["code"]


def test_a_fresh_process_calls_what_the_command_line_names_and_dies_with_its_parent(monkeypatch):
    ties = []
    monkeypatch.setattr(orphans, "die_with_agent", lambda: ties.append(1))
    monkeypatch.setattr(sys, "argv", ["child", "tests.sweep.test_child:gives_back", '{"code": 7}'])
    assert child.main() == 7 and ties == [1]


def test_a_row_that_is_not_needed_is_refused_alone(result):
    good, bad = (
        compose_resolved(["shape=nano", "topology=causal_decoder", f"norm={norm}"])
        for norm in ("layernorm", "batchnorm")
    )
    job = {"rows": {"Base": good, "Batch": bad}, "configs": [], "result": str(result)}
    assert child.prepare({**job, "needed": ["Base"]}) == 0
    found = json.loads(result.read_text())
    assert found["sha256"] == [] and [*found["refused"]] == ["Batch"]
    assert "takes its statistics over all tokens of the batch" in found["refused"]["Batch"]
    assert child.prepare({**job, "needed": ["Base", "Batch"]}) == child.prepare(job) == UserError.exit_code
    assert json.loads(result.read_text())["errors"][0].startswith("Batch: norm=batchnorm")
