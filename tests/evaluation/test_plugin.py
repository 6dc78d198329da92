"""An evaluation from a package of one's own: one module and one YAML file, and nothing central knows of it."""

from __future__ import annotations

import csv
import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
from matplotlib.axes import Axes

from ablate import cli
from ablate.config import compose, evaluations, identity, options, own_code, resolved
from ablate.report import build
from ablate.run.score import Score
from tests.training.standin import folder_of, run

NUMBERS = itertools.count()
MODULE = '''
from ablate.evaluation.contract import Evaluation
from ablate.run.score import Curve, Score


class FirstToken(Evaluation):
    """The probability that a guess of the first target is wrong."""

    def __init__(self, *, tokens):
        self.tokens = tokens

    def evaluate(self, model, context):
        outcomes = []
        for batch in context.heldout(self.tokens, context.seed):
            context.check_stop()
            batch = context.on_device(batch)
            with context.autocast():
                _, nll = model.forward(batch)
            outcomes += (1 - (-nll[:, 0]).exp()).tolist()
        value = sum(outcomes) / len(outcomes)
        halves = [sum(half) / len(half) for half in (outcomes[::2], outcomes[1::2])]
        return {
            "FIRST": Score(
                value, "error", higher_is_better=False, items=len(outcomes), chance=159 / 160,
                source={"version": 1}, outcomes=outcomes, curve=Curve("half", [1, 2], halves),
            )
        }
'''
OPTION = (
    "# How often the first target is not guessed\nfirst_token:\n  _target_: {package}.tasks.FirstToken\n  tokens: 64\n"
)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package, of a new name in each test, because Python keeps what it imported."""
    name = f"tasks_{next(NUMBERS)}"
    folder = tmp_path / name
    (folder / "conf" / "evaluation").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "tasks.py").write_text(MODULE.replace("FIRST", "first_token_error"))
    (folder / "conf" / "evaluation" / "first_token.yaml").write_text(OPTION.format(package=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(options.PLUGINS, name)
    return folder


def test_its_score_reaches_record_tables_heat_map_and_report(package, asked, tmp_path, monkeypatch):
    heads, draw = [], Axes.set_xticks
    monkeypatch.setattr(
        Axes, "set_xticks", lambda self, at, labels=(), **k: heads.extend(labels) or draw(self, at, labels, **k)
    )
    for row, seed in itertools.product(("baseline", "RMS"), range(3)):
        norm = ["norm=rmsnorm"] if row == "RMS" else []
        more = ["sweep=tasks", f"row={row}", f"seed={seed}", "shape.steps=10", "evaluation=[heldout,first_token]"]
        overrides = asked(*more, *norm)
        run(overrides)
        record = json.loads(folder_of(overrides).record.read_text())
        score = Score.from_json(record["scores"]["first_token_error"])
        assert record["downstream"] == {"first_token_error": score.value}
        assert score.items == 64 // 2 == len(score.outcomes) and score.chance == 159 / 160
        assert score.source["version"] == 1 and score.source["evaluation"] == "first_token"
    report = build.build("tasks", tmp_path / "runs", tmp_path / "reports", tmp_path / "sweeps").path
    lines = {line["row"]: line for line in csv.DictReader((report.parent / "results.csv").open())}
    assert set(lines) == {"baseline", "RMS"} and 0.9 < float(lines["RMS"]["first_token_error"]) < 1
    assert r"first\_token\_error (error, lower is better)" in report.read_text()
    assert (report.parent / "heatmap.png").exists() and "first_token_error" in heads
    curves = csv.DictReader((report.parent / "curves.csv").open())
    assert sum(line["kind"] == "first_token_error" for line in curves) == 2 * 3 * 2
    assert "not comparable" not in report.read_text()


def test_its_code_belongs_to_its_hash_and_not_to_the_run(package):
    cfg = compose(["evaluation=[heldout,first_token]"])
    run_before, before = identity(cfg, "x"), evaluations.hashes(resolved(cfg), "x")
    assert run_before == identity(compose(), "x") and own_code(cfg) == {}
    (package / "tasks.py").write_text(MODULE.replace("FIRST", "another"))
    assert identity(cfg, "x") == run_before
    assert evaluations.hashes(resolved(cfg), "x") != before


def test_it_is_listed(package, capsys):
    assert cli.run(["options", "evaluation"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"\n    first_token +How often the first target is not guessed\n", told) and "  * heldout " in told


def test_nothing_central_knows_a_name():
    """Beside its own module and file, the default that conf/config.yaml chooses, and a command's example."""
    root = Path(options.__file__).parents[2]
    words = ["by_position", "LossByPosition", "loss_by_position", "HeldOut("]
    found = subprocess.run(
        ["grep", "-rlE", "--include=*.py", "|".join(words).replace("(", r"\("), str(root / "ablate")],
        capture_output=True,
        text=True,
        check=False,
    )
    files = {str(Path(line).relative_to(root)) for line in found.stdout.splitlines()}
    allowed = {"ablate/evaluation/by_position.py", "ablate/evaluation/heldout.py", "ablate/config/evaluations.py"}
    assert files <= {*allowed, "ablate/cli/evaluate.py"}
