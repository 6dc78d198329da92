"""Sweep files as a stranger could write them: each verb refuses them in a line, at once, and nothing is run."""

from __future__ import annotations

import time

import pytest

from ablate import cli

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
    start = time.monotonic()
    code, told = cli.run(words), capsys.readouterr().err
    if verb != "status" or code:  # which composes nothing
        assert code == 2 and line in told and "Traceback" not in told, told
        assert all(text.startswith("ablate: ") for text in told.splitlines())
    assert time.monotonic() - start < 10
    assert not canary.exists()
