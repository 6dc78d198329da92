"""Sweep files as a stranger could write them: each verb refuses them in a line, at once, and nothing is run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablate import cli
from ablate.run.folder import RunFolder, run_path
from ablate.run.record import Record
from ablate.sweep.progress import Display
from tests import cpu_seconds

ROWS = "baseline: A\nrows:\n  A: []\n  B: [norm=rmsnorm]\n"
CALL = "{{_target_: ablate.sweep.fork_server.call, entry: 'os:system', argument: 'touch {canary}', log: null}}"
SWEEPS = {
    "mirror": (f'base: ["logger.mirror={CALL}"]\n{ROWS}', "logger.mirror says where the results are sent"),
    "logger": ("base: [logger=wandb]\n" + ROWS, "logger says where the results are sent"),
    "target": ("base: [norm._target_=ablate.sweep.fork_server.call]\n" + ROWS, "is no option of norm"),
    "row": (f'baseline: A\nrows:\n  A: []\n  B: ["trainer.micro_batch={CALL}"]\n', "no class can be named here"),
    "environment": ("base: ['data.name=${{oc.env:HOME}}']\n" + ROWS, "the environment may only be read under paths"),
    "paths": ("base: ['paths.runs=/elsewhere']\n" + ROWS, "paths.runs says where a machine keeps things"),
    "hydra": ("base: ['hydra.searchpath=[/elsewhere]']\n" + ROWS, "Hydra's own settings"),
    "launcher": ("base: ['hydra/launcher=joblib']\n" + ROWS, "Hydra's own settings"),
    "added": ("base: ['+hydra.callbacks.x._target_=os.system']\n" + ROWS, "no key can be added"),
    "forced": ("base: ['++hydra.run.dir=/elsewhere']\n" + ROWS, "no key can be added"),
}


@pytest.mark.parametrize("verb", ["plan", "sweep", "status", "train"])
@pytest.mark.parametrize("kind", SWEEPS)
def test_a_sweep_file_runs_nothing(kind, verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    canary = tmp_path / "canary"
    text, line = SWEEPS[kind]
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("question: Which?\n" + text.format(canary=canary))
    words = [verb, "sweep=mine", "row=B", "seed=0"] if verb == "train" else [verb, "mine"]
    with cpu_seconds.at_most(10):
        code = cli.run(words)
    told = capsys.readouterr().err
    if verb != "status" or code:  # which composes nothing
        assert code == 2 and line in told and "Traceback" not in told, told
        assert all(text.startswith("ablate: ") for text in told.splitlines())
    assert not canary.exists()


def test_what_a_record_says_reaches_the_terminal_as_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("question: Which?\nseeds: {baseline: 3, rows: 3}\n" + ROWS)
    reason = "\x1b]0;owned\x07\x1b[2Jdone\r\x9b31m\u202e\nablate: all is well"
    record = Record(schema=1, sweep="mine", row="B", seed=0, status="failed", reason=reason)
    folder = RunFolder(run_path("runs", "mine", "B", 0))
    folder.write(record)
    folder.config.write_text('norm: "\\e[2J"\nevaluation: {}\n')
    assert cli.run(["status", "mine"]) == 0
    other = RunFolder(run_path("runs", "mine", "A", 0))
    other.write(replace(record, row="A"))
    other.config.write_text('norm: "\\x9b"\nevaluation: {}\n')
    assert cli.run(["diff", "mine/A/0", "mine/B/0"]) == 0
    Display().say(reason)
    told = capsys.readouterr().out
    assert "owned" in told and "->" in told and all(char in "\n\t" or char.isprintable() for char in told)
    assert "\nablate: all is well" not in told.partition("norm")[0]


@pytest.mark.parametrize("verb", ["plan", "sweep", "status", "report"])
def test_a_bomb_in_a_sweep_file_is_one_line_at_once(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    levels = "".join(f"  - &b{level + 1} [*b{level},*b{level},*b{level}]\n" for level in range(40))
    for text in (
        f"notes:\n  - &b0 [x]\n{levels}{ROWS}",
        "seeds: {baseline: 1000000000, rows: 1000000000}\n" + ROWS,
        "grid:\n" + "".join(f"  a{axis}: {[*range(10)]}\n" for axis in range(9)),
    ):
        (tmp_path / "sweeps" / "mine.yaml").write_text("question: Which?\n" + text)
        with cpu_seconds.at_most(5):
            assert cli.run([verb, "mine"]) == 2
        told = capsys.readouterr().err
        assert len(told.splitlines()) == 1, told


@pytest.mark.parametrize(
    "override",
    [
        "trainer.threads=100000",
        "trainer.devices=100000",
        "tokenizer.vocab_size=100000000000000000000",
        "shape.d_model=1000000000000",
        "stack.encoder.n_layers=1000000000000",
        "objective.length=1e15",
        "trainer.global_batch_tokens=1000000000000000000",
        "trainer.steps=1000000000000000000000000000000",
        "schedule.peak=inf",
        "schedule.peak=nan",
        f"trainer.steps={'9' * 5000}",
        f"trainer.steps={'9' * 400}",
        "parameter_groups=" + "[" * 3000,
    ],
)
def test_a_number_that_nothing_can_hold_is_refused_at_once(override, capsys):
    with cpu_seconds.at_most(10):
        assert cli.run(["cost", override]) == 2
    told = capsys.readouterr().err
    assert told.count("ablate: ") == len(told.splitlines()) <= 3 and "Traceback" not in told
    assert override.partition("=")[0] in told
