"""`ablate profile`: what it prints, stores and refuses. What it measures is tested where it is measured."""

import json

import pytest

from ablate import cli
from ablate.training import profiling
from ablate.training.profiling import StepProfile
from ablate.training.work import CLASSES, Work


@pytest.fixture
def measured(monkeypatch):
    """The configs that are profiled, each of which takes twice as long with rmsnorm."""
    seen = []

    def profile_steps(cfg, folder, say=None):
        seen.append(cfg)
        factor = 2 if "RMS" in cfg.norm._target_ else 1
        work = {kind: Work(0.01 * factor, 1000 - 500 * (kind == "optimizer")) for kind in CLASSES}
        return StepProfile(0.05 * factor, 0.05 * factor, 0.06 * factor, work)

    monkeypatch.setattr(profiling, "profile_steps", profile_steps)
    return seen


def test_one_configuration(measured, capsys):
    assert cli.run(["profile", "shape=nano", "norm=rmsnorm"]) == 0
    out = capsys.readouterr().out
    assert "norm=rmsnorm" in out and "of run time" in out and "A step takes 100.0 ms" in out
    assert len(measured) == 1 and "What was found" not in out


def test_two_are_measured_in_turn_and_stored(measured, capsys, tmp_path):
    words = ["profile", "shape=nano", f"paths.data={tmp_path}", "--against", "norm=rmsnorm", "--json"]
    assert cli.run([*words, "--report", str(tmp_path / "report")]) == 0
    stored = json.loads((tmp_path / "report" / "profile.json").read_text())
    assert json.loads(capsys.readouterr().out) == stored
    assert [one["label"] for one in stored["variants"]] == ["baseline", "norm=rmsnorm"]
    assert stored["variants"][1]["overrides"] == ["shape=nano", "norm=rmsnorm"]  # no place on this machine
    assert ["RMS" in cfg.norm._target_ for cfg in measured] == [False, True] * 6
    report = (tmp_path / "report" / "report.md").read_text()
    assert "A step with norm=rmsnorm" in report and "is slower: 0.50 ×" in report
    before = report
    (tmp_path / "report" / "report.md").unlink()
    assert cli.run(["profile", "--report", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "report.md").read_text() == before and len(measured) == 12


def test_the_first_is_called_by_what_the_second_changes(measured, capsys):
    assert cli.run(["profile", "shape=nano", "norm=scalenorm", "--against", "norm=rmsnorm", "--rounds", "1"]) == 0
    assert "norm=scalenorm\n" in (out := capsys.readouterr().out) and "shape=nano norm" not in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["norms"], "norms: ablate profile takes overrides"),
        (["--rounds", "0"], "--rounds 0: must be a whole number above 0"),
        (["--against", "rmsnorm"], "rmsnorm: --against takes overrides"),
        (["norm=rmsnorm", "--against", "norm=rmsnorm"], "is the configuration that it is measured against"),
        (["--against", "norm=rmsnrm"], "rmsnrm"),
        (["trainer=gpu", "trainer.accelerator=cpu"], "trainer.compile=model: a compiled kernel is of no one class"),
        (["trainer.steps=5"], "trainer.steps=5: a profile takes"),
        (["--jsn"], "--jsn: unknown flag"),
    ],
)
def test_mistakes_are_a_line(measured, capsys, words, reason):
    assert cli.run(["profile", *words]) == 2
    errors = capsys.readouterr().err
    assert reason in errors and len(errors.splitlines()) == 1 and not measured
