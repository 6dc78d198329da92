"""What "auto" stands for: decided where a run is first made, and read from there afterwards."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from ablate import machine
from ablate.config import compose, compose_resolved, identity
from ablate.config.settling import RULES, by_machine, settle
from ablate.errors import UserError
from ablate.run.folder import RunFolder, run_path
from ablate.study import definition, runs
from ablate.study.paths import Paths
from ablate.study.settled import Settled, settled

SWEEP = """question: Which?
base: [trainer.steps=20]
baseline: A
rows:
  A: []
  B: [norm=rmsnorm]
  C: [trainer.threads=7]
seeds: {baseline: 2, rows: 2}
"""


@pytest.fixture(autouse=True)
def has(tmp_path, monkeypatch):
    """`has(cores)` of this machine, which has eight and no GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    set_to = lambda cores: monkeypatch.setattr(machine, "cores", lambda: cores)  # noqa: E731
    set_to(8)
    return set_to


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(SWEEP)
    return definition.load("mine", tmp_path / "sweeps")


def threads_of(sweep, row, *extra, **options):
    config = compose_resolved(runs.overrides(sweep, row, 0, extra))
    return Settled(sweep, Paths.of(), extra, **options).of(config)["trainer"]["threads"]


def make(row, seed, threads, sweep="mine"):
    """A run in its folder."""
    folder = RunFolder(run_path("runs", sweep, row, seed))
    folder.path.mkdir(parents=True)
    folder.config.write_text(yaml.safe_dump({"trainer": {"threads": threads, "compile": "none"}}))


def commit(*runs, sweep="mine"):
    """The records of runs (row, seed, threads) in the folder of a report."""
    lines = [{"row": row, "seed": seed, "settings": {"trainer": {"threads": n}}} for row, seed, n in runs]
    folder = Paths.of().reports / sweep
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("\n".join(map(json.dumps, [{"the": "sweep"}, *lines])) + "\n")


def test_a_run_by_itself_takes_all_cores_and_a_sweep_shares_them(sweep, has):
    assert settled(compose()).trainer.threads == 8
    assert settled(compose(["trainer.devices=4"])).trainer.threads == 2
    assert threads_of(sweep, "A") == threads_of(sweep, "B") == 1  # as many runs at a time as there are cores
    assert [threads_of(sweep, "A", jobs=jobs) for jobs in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_the_environment_limits_the_threads(monkeypatch, sweep):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert settled(compose()).trainer.threads == threads_of(sweep, "A", jobs=1) == 3
    assert threads_of(sweep, "A", jobs=4) == 2


def test_a_run_on_a_gpu_needs_one_thread_and_compiles_for_many_steps(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    chosen = settled(compose(["trainer.compile=auto", "trainer.steps=5000"])).trainer
    assert (chosen.threads, chosen.compile) == (1, "model")
    assert settled(compose(["trainer.compile=auto", "trainer.steps=50"])).trainer.compile == "none"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert settled(compose(["trainer.compile=auto", "trainer.steps=5000"])).trainer.compile == "none"


def test_what_is_asked_for_by_number_is_never_changed(sweep):
    make("A", 0, 3)
    assert settled(compose(["trainer.threads=5"])).trainer.threads == 5
    assert threads_of(sweep, "C") == 7 and threads_of(sweep, "A", "trainer.threads=2") == 2


def test_a_run_stays_what_it_was_on_a_machine_with_other_cores(has):
    cfg = compose(["row=mine"])
    has(2)
    first = settled(cfg)
    make("mine", 0, first.trainer.threads, "adhoc")
    has(64)
    assert identity(settled(cfg), "x") == identity(first, "x") and first.trainer.threads == 2
    assert settled(compose(["row=mine", "seed=1"])).trainer.threads == 64  # a run of its own


def test_a_sweep_stays_what_its_runs_are(sweep, has):
    make("B", 1, 4)
    assert threads_of(sweep, "A") == threads_of(sweep, "B", jobs=1) == 4
    assert settled(compose(runs.overrides(sweep, "A", 0))).trainer.threads == 4  # by `ablate train sweep=mine row=A`


def test_rows_that_have_a_number_of_their_own_say_nothing_of_the_others(sweep):
    make("C", 0, 7)
    commit(("C", 1, 7))
    assert threads_of(sweep, "A") == 1


def test_committed_records_count_where_the_folder_is_empty(sweep):
    commit(("C", 0, 7), ("B", 0, 2))
    assert threads_of(sweep, "A") == threads_of(sweep, "A", jobs=1) == 2
    assert threads_of(sweep, "A", stored=False) == 1
    make("A", 0, 3)
    assert threads_of(sweep, "A") == 3


def test_a_committed_run_by_itself_is_that_of_its_row_and_seed():
    commit(("mine", 0, 3), ("mine", 1, 5), sweep="adhoc")
    assert [settled(compose(["row=mine", f"seed={n}"])).trainer.threads for n in (0, 1, 2)] == [3, 5, 8]


@pytest.mark.parametrize("threads", ["auto", "many", 0, None, [2], {"a": 1}])
def test_a_damaged_value_is_none(sweep, threads):
    make("A", 0, threads)
    commit(("A", 0, threads))
    assert threads_of(sweep, "A") == 1


def test_damaged_files_have_no_value(sweep):
    make("A", 0, 3)
    RunFolder(run_path("runs", "mine", "A", 0)).config.write_text("trainer: [")
    commit()
    (Paths.of().reports / "mine" / "records.jsonl").write_text('{}\n[]\n{"row": "A"\n')
    assert threads_of(sweep, "A") == 1


def test_a_folder_with_two_values_is_one_line(sweep):
    for run in (("A", 0, 1), ("A", 1, 1), ("B", 0, 2), ("C", 0, 7)):
        make(*run)
    found = Settled(sweep, Paths.of())
    with pytest.raises(UserError) as refused:
        found.check()
    assert str(refused.value) == found.mixed
    assert found.mixed.startswith(
        "mine: its runs were made with different values of trainer.threads: trainer.threads=1 (2 runs), "
        "trainer.threads=2 (1 run); ask for one, as in trainer.threads=1, with replace=true to move"
    )
    assert threads_of(sweep, "B") == 1  # as most have it


def test_a_number_for_all_runs_leaves_nothing_mixed(sweep):
    make("A", 0, 1)
    make("B", 0, 2)
    assert Settled(sweep, Paths.of()).mixed and not Settled(sweep, Paths.of(), ["trainer.threads=1"]).mixed


def test_a_baseline_that_cannot_be_composed_is_said_elsewhere(sweep):
    broken = replace(sweep, rows={**sweep.rows, "A": ("norm=nothing",)})
    assert threads_of(broken, "B") == 1 and not Settled(broken, Paths.of()).mixed


def test_every_key_that_may_be_auto_has_a_rule_and_a_value_that_it_can_be():
    config = compose_resolved([f"{key}=auto" for key in RULES])
    values = by_machine(config, 1)
    assert values.keys() == RULES.keys()
    compose([f"{key}={value}" for key, value in values.items()])
    assert settle(config, values) == compose_resolved([f"{key}={value}" for key, value in values.items()]) | {
        "row": config["row"]
    }


def test_one_device_of_the_trainer_is_enough_to_say_what_it_uses(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.uses_gpu(SimpleNamespace(accelerator="auto"))
    assert not machine.uses_gpu(SimpleNamespace(accelerator="cpu"))
