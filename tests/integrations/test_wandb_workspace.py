"""The W&B workspace: what it shows is what runs log, and nothing needs the package that makes it."""

import csv
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ablate.integrations import wandb_mirror, wandb_workspace
from ablate.training.metrics import COLUMNS
from tests.training.standin import folder_of, run


def test_without_the_package_it_is_one_line(tmp_path):
    script = "import sys; sys.modules['wandb_workspaces'] = None; import runpy; sys.argv = ['w'];"
    script += "runpy.run_module('ablate.integrations.wandb_workspace', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("ablate: a workspace needs wandb-workspaces: pip install")
    assert len(done.stderr.splitlines()) == 1 and not [*tmp_path.glob("*.json")]


def test_it_shows_what_is_logged(asked):
    overrides = asked()
    record, folder = run(overrides), folder_of(overrides)
    with open(folder.metrics, encoding="utf-8") as file:
        logged = {f"{row['kind']}/{name}" for row in csv.DictReader(file) for name in COLUMNS if row[name]}
    assert logged >= {metric for metrics in wandb_workspace.CURVES.values() for metric in metrics}
    numbers = {*wandb_mirror._summary(record)}
    assert numbers >= {number for shown in wandb_workspace.NUMBERS.values() for number in shown}


def test_it_is_written_or_saved_and_said_where(tmp_path, monkeypatch, capsys):
    asked = []
    saved = SimpleNamespace(save=lambda: SimpleNamespace(url="https://wandb.example/mine"))
    monkeypatch.setattr(wandb_workspace, "workspace", lambda *given: (asked.append(given), saved)[1])
    monkeypatch.setattr(wandb_workspace, "specification", lambda *given: (asked.append(given), {"a": 1})[1])
    wandb_workspace.run(["--project", "mine", "--entity", "me", "--save"])
    assert capsys.readouterr().out == "https://wandb.example/mine\n" and asked == [("mine", "me")]
    path = tmp_path / "w.json"
    wandb_workspace.run(["--file", str(path)])
    assert capsys.readouterr().out == f"{path}\n" and asked[1:] == [("ablate", "")]
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_file_has_panels_by_section_and_runs_by_row(tmp_path):
    pytest.importorskip("wandb_workspaces")
    path = tmp_path / "workspace.json"
    wandb_workspace.run(["--project", "mine", "--entity", "me", "--file", str(path)])
    content = json.loads(path.read_text())
    assert (content["project"], content["entity"]) == ("mine", "me")
    shown = content["spec"]["section"]
    assert [key["name"] for key in shown["runSets"][0]["grouping"]] == ["group", "jobType"]
    sections = {section["name"]: section["panels"] for section in shown["panelBankConfig"]["sections"]}
    assert [*sections] == ["Loss", "Optimisation", "Result", "Cost", "Report"]
    loss = sections["Loss"][0]["config"]
    assert (loss["metrics"], loss["xAxis"], loss["groupBy"]) == (["train/loss"], "step", "jobType")
    assert sections["Result"][0]["config"]["metrics"] == ["loss/final"]
