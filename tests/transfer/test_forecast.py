"""`ablate forecast`: a prediction of the next size, written before it runs, and scored by its report afterwards."""

import csv
import json
import math

import numpy as np
import pytest
import yaml

from ablate.cli import run
from ablate.errors import UserError
from ablate.report import build as report
from ablate.report.analysis.forecast import Predicted, read
from ablate.study.definition import load
from ablate.study.paths import Paths
from ablate.transfer.forecast import _cost, forecast
from tests.report.synthetic import SETTINGS, Maker

SIZES = {"a": [], "b": ["shape.n_layers=8"], "c": ["shape.n_layers=12"]}
STEP = math.log(4)
ROWS = {  # overrides, the difference at the smallest size, and by how much it moves per factor e of FLOPs
    "SwiGLU": (["activation=swiglu"], -0.08, 0.0),
    "ALiBi": (["position=alibi"], 0.10, -0.03),
    "GELU": (["activation=gelu"], 0.0, 0.0),
    "SeLU": (["activation=selu"], 0.05, 0.01),
}


class Study(Maker):
    """Rows at three sizes, each with its rungs; a size is trained when it is asked for."""

    def __init__(self, root, seeds=4):
        super().__init__(root, "study")
        self.seeds = {"baseline": seeds, "rows": seeds}
        self.noise = np.random.default_rng(5)
        self.add(self.baseline, "rows", [])
        for label, (overrides, *_) in ROWS.items():
            self.add(label, "rows", overrides)
        self.write_sweep()
        path = self.sweeps / "study.yaml"
        content = yaml.safe_load(path.read_text())
        content |= {"scale": {"sizes": SIZES, "tokens_per_parameter": 1}, "rungs": [0.5, 2]}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        self.flops, _ = _cost(load("study/c", self.sweeps))
        self.paths = Paths(root / "runs", root / "data", self.sweeps, root / "reports")

    @property
    def words(self):
        return [f"paths.{name}={getattr(self.paths, name)}" for name in ("runs", "sweeps", "reports", "data")]

    def train(self, size, seeds=None, started="2100-01-01T00:00:00Z", rungs=(0.5, 2.0)):
        sweep = load(f"study/{size}", self.sweeps)
        number = [*SIZES].index(size)
        level = 5.0 - 0.2 * number
        (steps,) = [int(text.partition("=")[2]) for text in sweep.base if text.startswith("trainer.steps=")]
        of_all = {"number": number, "started": started, "seeds": seeds or self.seeds["rows"]}
        self._runs(sweep, self.baseline, [], level, steps, **of_all)
        for label, (overrides, difference, slope) in ROWS.items():
            self._runs(sweep, label, overrides, level + difference + slope * STEP * number, steps, **of_all)
        for factor in rungs:
            rung = next(part for part in sweep.at_rungs() if part.rung == factor)
            loss = level - 0.3 * math.log(factor)
            self._runs(rung, self.baseline, [], loss, round(steps * factor), **of_all)

    def _runs(self, sweep, label, overrides, loss, steps, *, number, started, seeds):
        self.name, self.steps = sweep.name, steps
        trainer = {"trainer": SETTINGS["trainer"] | {"steps": steps}}
        for seed in range(seeds):
            final = loss + self.seed_effects[seed] + float(self.noise.normal(0, 0.01))
            given = [text for text in sweep.base if not text.startswith("trainer.steps=")]
            given = [*given, f"trainer.steps={steps}", *overrides]
            more = {"settings": trainer, "flops_per_step": self.flops / 4 ** (2 - number) / steps, "started": started}
            self.run(label, seed, given, final=final, **more)


@pytest.fixture
def study(tmp_path):
    made = Study(tmp_path)
    made.train("a")
    made.train("b")
    return made


def test_the_next_size_is_foreseen_and_scored_when_it_has_run(study, capsys):
    assert run(["forecast", "study", *study.words]) == 0
    said = capsys.readouterr().out
    path = study.paths.reports / "study" / "c" / "forecast.json"
    assert said.splitlines()[-1] == str(path) and "study/c" in said and "Two sizes cannot tell" in said
    found = read(path)
    assert found.context == "study/c" and [*found.rows] == [*ROWS]
    assert found.rows["SwiGLU"].nats.holds(-0.08) and found.rows["SwiGLU"].gain is not None
    assert found.baseline.holds(4.6)
    assert "| SwiGLU |" in path.with_suffix(".md").read_text()
    before = path.read_bytes()
    assert run(["forecast", "study", *study.words]) == 0  # again: the same, untouched
    assert path.read_bytes() == before

    study.train("c")
    assert run(["forecast", "study", *study.words]) == 2
    assert "every size has begun" in capsys.readouterr().err
    assert run(["forecast", "study/c", "replace=true", *study.words]) == 2
    assert "study/c has begun (28 runs): a forecast is made before" in capsys.readouterr().err
    assert path.read_bytes() == before

    for size in SIZES:
        written = report.build(f"study/{size}", study.paths.runs, study.paths.reports, study.sweeps)
    smallest = (study.paths.reports / "study" / "a" / "report.md").read_text()
    assert "Along the sizes, from b to c" in smallest and "## The forecast" not in smallest
    text = written.path.read_text()
    assert "Foreseen before it ran: 4 of 4 intervals held" in text and "began before it was made" not in text
    assert "no longer those" not in text and "The baseline's loss: foreseen" in text
    with open(written.path.parent / "results.csv", encoding="utf-8") as file:
        line = next(line for line in csv.DictReader(file) if line["row"] == "SwiGLU")
    assert float(line["forecast_low"]) < float(line["delta"]) < float(line["forecast_high"])
    assert "Along the sizes, from b to c" in text and "nats as the FLOPs grow by a factor of e" in text
    again = report.rebuild(written.path.parent)
    assert again.path.read_text() == text


def test_a_forecast_that_was_changed_is_not_scored(study):
    path, _ = forecast("study", study.paths)
    study.train("c")
    path.write_text(path.read_text().replace('"mean": ', '"mean": 1', 1))
    written = report.build("study/c", study.paths.runs, study.paths.reports, study.sweeps)
    assert any("changed after it was written" in problem for problem in written.problems)
    assert "forecast.json" in written.path.read_text() and "Foreseen before" not in written.path.read_text()


def test_runs_that_began_before_and_sizes_that_changed_are_told(study):
    forecast("study", study.paths)
    study.train("c", started="2001-01-01T00:00:00Z")
    study.train("b", seeds=3)
    for size in ("b", "c"):
        written = report.build(f"study/{size}", study.paths.runs, study.paths.reports, study.sweeps)
    text = written.path.read_text()
    assert "28 runs of this size began before it was made" in text
    assert "The runs of study/b are no longer those that it rests on" in text


def test_other_runs_make_another_forecast_only_where_that_is_asked_for(study):
    path, first = forecast("study", study.paths)
    study.train("b")  # with other noise
    with pytest.raises(UserError, match="rests on other runs, or is of another size; replace=true"):
        forecast("study", study.paths)
    _, second = forecast("study", study.paths, replace=True)
    assert second.rows["GELU"] != first.rows["GELU"] and len([*path.parent.glob("forecast*json*")]) == 2
    path.write_text(path.read_text().replace("study/c", "study/d", 1))
    with pytest.raises(UserError, match="is damaged, or was changed; replace=true"):
        forecast("study", study.paths)


def test_what_cannot_be_foreseen(tmp_path, capsys):
    study = Study(tmp_path)
    said = []

    def refused(*words):
        assert run(["forecast", *words, *study.words]) == 2
        said.append(capsys.readouterr().err.strip())
        assert "\n" not in said[-1]
        return said[-1]

    study.train("a")
    assert "a forecast needs 2 smaller sizes with 3 seeds" in refused("study") and "there is 1" in said[-1]
    study.train("b", seeds=2)
    assert "too few finished seeds at b" in refused("study")
    assert "no size 'd' in study" in refused("study/d")
    study.train("c")
    assert "every size has begun" in refused("study")
    path = study.sweeps / "study.yaml"
    content = yaml.safe_load(path.read_text())
    del content["scale"]
    path.write_text(yaml.safe_dump(content))
    assert "has no scale:" in refused("study")


def test_a_size_below_one_that_has_begun_is_not_foreseen(tmp_path):
    study = Study(tmp_path)
    study.train("a")
    study.train("c")
    with pytest.raises(UserError, match="study/b: a larger size has begun: c"):
        forecast("study/b", study.paths)


def test_without_rungs_there_are_nats_alone(tmp_path):
    study = Study(tmp_path)
    path = study.sweeps / "study.yaml"
    content = yaml.safe_load(path.read_text())
    del content["rungs"]
    path.write_text(yaml.safe_dump(content))
    for size in ("a", "b"):
        study.train(size, rungs=())
    path, found = forecast("study", study.paths)
    assert all(row.gain is None for row in found.rows.values()) and json.loads(path.read_text())["level"] == 0.95
    assert read(path) == found or np.isnan(found.rows["GELU"].last_gain)


def test_a_score_is_the_error_of_a_certain_forecast_and_grows_with_it():
    sure, unsure = Predicted(0.0, 1e-9, 0.0, 0.0), Predicted(0.0, 1.0, -1.96, 1.96)
    assert sure.crps(0.5) == pytest.approx(0.5) and unsure.crps(0.0) == pytest.approx(0.2337, abs=1e-3)
    assert unsure.crps(3.0) > unsure.crps(1.0) > 0
