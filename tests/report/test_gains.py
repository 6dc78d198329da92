"""What differences are worth in compute: gathered from the rungs' runs, told in report, tables and picture."""

import csv
import math
import shutil

import numpy as np
import pytest
import yaml

from ablate.report.analysis.gathering import collect
from ablate.report.build import build, rebuild
from ablate.report.render import gain_text
from ablate.statistics.gain import Gain
from tests.report.synthetic import SETTINGS, Maker

SLOPE = 0.3  # nats by which the loss falls as the tokens grow by e
ROWS = {
    "SwiGLU": (["activation=swiglu"], -0.3 * math.log(1.3), 0.9, 1.25),  # 1.3 x the tokens, at 0.9 of the speed
    "GELU": (["activation=gelu"], 0.0, 1.0, 1.0),
    "ALiBi": (["position=alibi"], -0.3 * math.log(3), 1.0, 1.0),  # beyond the rungs
    "SeLU": (["activation=selu"], 0.3 * math.log(1.25), 1.0, 1.0),
}
ROUNDS = [19.0, 19.1, 18.9, 19.05, 18.95, 19.0, 19.02]


class RungMaker(Maker):
    """The rows of `ROWS`, and the baseline at half and double the steps, in an own folder each."""

    def __init__(self, root, rungs=(0.5, 2.0), **options):
        super().__init__(root, **options)
        self.rungs, self.noise = rungs, np.random.default_rng(3)
        self.seeds = {"baseline": 5, "rows": 5}

    def write_sweep(self):
        super().write_sweep()
        path = self.sweeps / f"{self.name.partition('/')[0]}.yaml"
        content = yaml.safe_load(path.read_text())
        content["base"] += ["trainer.steps=200"]
        path.write_text(yaml.safe_dump(content | {"rungs": [*self.rungs]}))

    def all(self, without=()):
        self.add(self.baseline, "rows", [])
        for seed in range(5):
            self._seed(self.baseline, seed, [], 0.0, rounds=ROUNDS)
        for label, (overrides, delta, speed, flops) in ROWS.items():
            self.add(label, "rows", overrides)
            rounds = [speed * round_ for round_ in ROUNDS]
            for seed in range(5):
                self._seed(label, seed, overrides, delta, rounds=rounds, flops=flops)
        name, steps = self.name, self.steps
        self.write_sweep()
        for factor in self.rungs:
            if factor not in without:
                self.name, self.steps = f"{name}/x{factor:g}", round(steps * factor)
                for seed in range(5):
                    trainer = {"trainer": SETTINGS["trainer"] | {"steps": self.steps}}
                    self._seed(self.baseline, seed, [], -SLOPE * math.log(factor), settings=trainer)
        self.name, self.steps = name, steps
        return self

    def _seed(self, label, seed, overrides, delta, **more):
        final = 5.0 + self.seed_effects[seed] + delta + float(self.noise.normal(0, 0.004))
        self.run(label, seed, [f"trainer.steps={self.steps}", *overrides], final=final, **more)

    def build(self):
        return build(self.name, self.runs, self.reports, self.sweeps)


def content(folder):
    """Every file of a report but its PDFs, which say when they were made."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pdf")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def maker(tmp_path):
    return RungMaker(tmp_path).all()


def test_the_gain_of_each_row(maker):
    found = maker.build().verdicts.gains
    assert found.runs == {0.5: 5, 1.0: 5, 2.0: 5} and found.rungs.slope == pytest.approx(SLOPE, abs=0.02)
    swiglu = found.rows["SwiGLU"]
    assert math.exp(swiglu.tokens.log) == pytest.approx(1.3, abs=0.04)
    assert swiglu.tokens.low < swiglu.tokens.log < swiglu.tokens.high and swiglu.tokens.low > 0
    assert math.exp(swiglu.flops.log - swiglu.tokens.log) == pytest.approx(1 / 1.25)
    assert math.exp(swiglu.time.log - swiglu.tokens.log) == pytest.approx(0.9)
    assert found.rows["GELU"].tokens.low < 0 < found.rows["GELU"].tokens.high
    assert math.exp(found.rows["SeLU"].tokens.log) == pytest.approx(0.8, abs=0.03)
    alibi = found.rows["ALiBi"].tokens
    assert math.isnan(alibi.log) and (math.exp(alibi.low), alibi.high, alibi.needs) == (pytest.approx(2), math.inf, 4)


def test_an_interval_excludes_one_exactly_where_the_row_differs(maker):
    verdicts = maker.build().verdicts
    for row in verdicts.rows:
        found = verdicts.gains.rows[row.label].tokens
        assert row.comparison.differs == (found.low > 0 or found.high < 0), row.label


def test_the_report_says_it(maker):
    report = maker.build()
    text = report.path.read_text()
    head = text.split("\n")[:10]
    assert any("**Worth so many times the tokens: ALiBi above 2.00 ×, SwiGLU 1.3" in line for line in head)
    assert any("× is detected with 80 % power.**" in line for line in head)
    assert "0.5 × (5 runs), 1 × (5 runs) and 2 × (5 runs) the tokens of the rows" in text
    line = next(line for line in text.splitlines() if line.startswith("| ALiBi | above"))
    assert "a rung at 4 would tell more" in line
    assert "| GELU | 1.0" in text and "detectable: 1.0" in text
    assert "falls by 0.30" in text or "falls by 0.29" in text


def test_the_columns(maker):
    rows = {row["row"]: row for row in csv.DictReader((maker.build().path.parent / "results.csv").open())}
    swiglu, alibi = rows["SwiGLU"], rows["ALiBi"]
    assert float(swiglu["gain_tokens_low"]) < float(swiglu["gain_tokens"]) < float(swiglu["gain_tokens_high"])
    assert float(swiglu["gain_flops"]) == pytest.approx(float(swiglu["gain_tokens"]) / 1.25, rel=1e-4)
    assert alibi["gain_tokens"] == alibi["gain_tokens_high"] == "" and float(alibi["gain_tokens_low"]) > 1.9
    assert rows[maker.baseline]["gain_tokens"] == ""


def test_the_records_alone_give_the_same_report(maker):
    folder = maker.build().path.parent
    before = content(folder)
    assert {"x0.5/records.jsonl", "x2/records.jsonl"} <= {*before}
    shutil.rmtree(maker.runs)
    rebuild(folder)
    maker.build()
    assert content(folder) == before


def test_a_rung_that_has_not_run_leaves_the_other(tmp_path):
    found = RungMaker(tmp_path).all(without=(2.0,)).build().verdicts.gains
    assert [*found.runs] == [0.5, 1.0] and not found.problem
    assert math.exp(found.rows["SeLU"].tokens.log) == pytest.approx(0.8, abs=0.03)
    assert found.rows["SwiGLU"].tokens.needs == pytest.approx(2)


def test_without_rungs_the_report_says_what_is_missing(tmp_path):
    report = RungMaker(tmp_path).all(without=(0.5, 2.0)).build()
    assert "is not known: the baseline has too few runs at any other number of tokens" in report.path.read_text()
    assert math.isnan(report.verdicts.gains.rows["SwiGLU"].tokens.low)


def test_runs_of_a_rung_with_another_configuration_are_left_out_and_named(maker):
    name, maker.name, maker.steps = maker.name, f"{maker.name}/x2", 400
    maker.run(maker.baseline, 4, ["trainer.steps=400", "dropout=0.1"], final=4.0)
    maker.name, maker.steps = name, 200
    report = maker.build()
    assert report.verdicts.gains.runs[2.0] == 4
    assert any(problem.startswith("x2/") and "dropout=0.1" in problem for problem in report.problems)


def test_a_baseline_that_more_tokens_do_not_help_gives_no_gain(tmp_path):
    maker = RungMaker(tmp_path, rungs=(2.0,)).all(without=(2.0,))
    maker.name, maker.steps = "made-up/x2", 400
    for seed in range(5):
        trainer = {"trainer": SETTINGS["trainer"] | {"steps": 400}}
        maker._seed(maker.baseline, seed, [], 0.2, settings=trainer)
    maker.name = "made-up"
    assert "does not end lower with more tokens" in maker.build().verdicts.gains.problem


def test_a_context_has_its_own_rungs(tmp_path):
    maker = RungMaker(tmp_path, rungs=())
    maker.add(maker.baseline, "rows", [])
    maker.add("GELU", "rows", ["activation=gelu"])
    maker.write_sweep()
    path = maker.sweeps / "made-up.yaml"
    content = yaml.safe_load(path.read_text()) | {"contexts": {"small": []}, "rungs": [2]}
    path.write_text(yaml.safe_dump(content))
    for maker.name, maker.steps, delta in (("made-up/small", 200, 0.0), ("made-up/small-x2", 400, -0.2)):
        for seed in range(5):
            trainer = {"trainer": SETTINGS["trainer"] | {"steps": maker.steps}}
            maker._seed(maker.baseline, seed, [], delta, settings=trainer)
            if delta == 0:
                maker._seed("GELU", seed, ["activation=gelu"], -0.05)
    maker.name = "made-up/small"
    report = maker.build()
    assert report.path == maker.reports / "made-up" / "small" / "report.md"
    assert (maker.reports / "made-up" / "small-x2" / "records.jsonl").exists()
    assert report.verdicts.context == "small" and report.verdicts.gains.rows["GELU"].tokens.log > 0
    for file in ("results.csv", "runs.csv"):
        lines = [*csv.DictReader((report.path.parent / file).open())]
        assert {line["context"] for line in lines} == {"small"}
    assert collect("made-up/small", maker.runs, maker.sweeps).frame()["context"].unique().tolist() == ["small"]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Gain(), "–"),
        (Gain(0.0, -0.1, 0.1), "1.00 × (0.90 to 1.11)"),
        (Gain(math.nan, math.log(2), math.inf), "above 2.00 ×"),
        (Gain(math.nan, -math.inf, math.log(0.5)), "below 0.50 ×"),
        (Gain(0.5, 0.2, math.inf), "1.65 × (above 1.22)"),
    ],
)
def test_a_gain_in_words(found, text):
    assert gain_text.factor(found) == text
