"""`ablate transfer`: contexts from sweeps and published tables, the words and figures of the report."""

import csv
import math
import shutil

import numpy as np
import pytest
import yaml

from ablate.cli import run
from ablate.errors import UserError
from ablate.report.render import csv_tables
from ablate.transfer import build
from ablate.transfer.analysis import GAIN, NATS
from ablate.transfer.context import Context, axis_of
from tests.report.synthetic import SETTINGS, Maker

SLOPE = 0.3
CONTEXTS = {  # overrides, and by how much the loss of the change that flips is lower there
    "small": ["shape.n_layers=2"],
    "large": ["shape.n_layers=4"],
    "causal": ["shape.n_layers=2", "topology=causal_decoder"],
    "adam": ["shape.n_layers=2", "optimizer=adam"],
    "books": ["shape.n_layers=2", "data.name=books"],
}
GAINS = {  # ln of the gain in tokens, by context
    "SwiGLU": (["activation=swiglu"], dict.fromkeys(CONTEXTS, 0.3)),
    "ALiBi": (["position=alibi"], {**dict.fromkeys(CONTEXTS, 0.25), "causal": -0.25}),
    "GELU": (["activation=gelu"], dict.fromkeys(CONTEXTS, 0.0)),
    "SeLU": (["activation=selu"], dict.fromkeys(CONTEXTS, -0.2)),
}


class Study(Maker):
    """Rows in five contexts, with rungs where they are asked for."""

    def __init__(self, root, name="study", contexts=CONTEXTS, rungs=(0.5, 2.0), rename=str):
        super().__init__(root, name)
        self.seeds = {"baseline": 4, "rows": 4}
        noise = np.random.default_rng(11)
        self.add(self.baseline, "rows", [])
        rows = {rename(label): row for label, row in GAINS.items()}
        for label, (overrides, _) in rows.items():
            self.add(label, "rows", overrides)
        self.write_sweep()
        path = self.sweeps / f"{name}.yaml"
        content = yaml.safe_load(path.read_text())
        content["base"] += ["trainer.steps=200"]
        content |= {"contexts": dict(contexts), "rungs": [*rungs] or None}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        for number, (context, given) in enumerate(contexts.items()):
            level = 5.0 - 0.1 * number

            def train(label, overrides, gain, name=context, factor=1.0, given=given, level=level):
                self.name, self.steps = f"study/{name}".replace("study", path.stem), round(200 * factor)
                trainer = {"trainer": SETTINGS["trainer"] | {"steps": self.steps}}
                for seed in range(4):
                    loss = level + self.seed_effects[seed] - SLOPE * gain + float(noise.normal(0, 0.004))
                    parameters = {"parameters": {"total": 640_000, "non_embedding": 100_000 * (1 + ("large" in name))}}
                    parameters["parameters"]["active"] = 640_000
                    all_overrides = [*given, f"trainer.steps={self.steps}", *overrides]
                    self.run(label, seed, all_overrides, final=loss, settings=trainer, **parameters)

            train(self.baseline, [], 0.0)
            for label, (overrides, gains) in rows.items():
                train(label, overrides, gains[context])
            for factor in rungs:
                train(self.baseline, [], math.log(factor), f"{context}-x{factor:g}", factor)
        self.name = name

    def transfer(self, *names, **options):
        return build.build(names or (self.name,), self.runs, self.reports, self.sweeps, **options)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def report(study):
    return study.transfer()


def verdicts(found):
    return dict(zip(found.labels, (row.verdict for row in found.rows), strict=True))


def test_the_verdicts(report):
    assert report.found.unit == GAIN
    assert verdicts(report.found) == {
        "SwiGLU": "transfers", "ALiBi": "flips", "GELU": "undecided", "SeLU": "transfers",
    }  # fmt: skip
    swiglu = report.found.rows[report.found.labels.index("SwiGLU")].together
    assert swiglu.mean == pytest.approx(0.3, abs=0.03) and swiglu.tau < 0.05 and swiglu.predicted_low > 0.2


def test_what_an_effect_depends_on(report):
    alibi = report.found.rows[report.found.labels.index("ALiBi")]
    assert [axis for axis, one in alibi.depends.items() if one.is_found] == ["objective"]
    moved = report.found.moved[0]
    assert moved.axis == "objective" and moved.beyond == pytest.approx(0.5 / 2, abs=0.03)  # of four rows, one by 0.5


def test_the_words(report):
    said = report.path.read_text()
    assert "**Of 4 changes in 5 contexts, 2 transfer, 1 flips and 1 is undecided.**" in said
    assert "**Transfers:** SwiGLU and SeLU." in said and "**Flips:** ALiBi." in said
    assert "**Depends on the context:** ALiBi on objective." in said
    assert "**What moves effects most** is the objective" in said
    assert "worse in study/causal, better in study/" in said
    assert "All contexts have rungs of their baseline." in said
    line = next(line for line in said.splitlines() if line.startswith("| SwiGLU | **transfers**"))
    assert "| 1.3" in line and " × |" in line
    assert "| study/causal | 100 k | 410 k | shape.n\\_layers=2 topology=causal\\_decoder |" in said
    assert (report.path.parent / "transfer.png").exists()


def test_the_table(report):
    rows = {row["row"]: row for row in csv.DictReader((report.path.parent / "transfer.csv").open())}
    assert float(rows["SwiGLU"]["mean"]) == pytest.approx(0.3, abs=0.03) and rows["SwiGLU"]["unit"] == "gain"
    assert float(rows["ALiBi"]["study/causal"]) < 0 < float(rows["ALiBi"]["study/small"])
    assert rows["ALiBi"]["depends_on"] == "objective"


def test_early_losses_take_part_in_the_pairs_alone(report):
    names = [context.name for context in report.found.all]
    assert [context.name for context in report.found.contexts] == [f"study/{name}" for name in CONTEXTS]
    assert "study/small, early" in names
    assert "| study/small | study/small, early | 4 |" in report.path.read_text()


def test_the_records_beside_it_give_the_same_report(report, tmp_path):
    folder = tmp_path / "transfer-study"
    shutil.copytree(report.path.parent, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".pdf"}
    for name in before:
        if name != build.SOURCES:
            (folder / name).unlink()
    build.rebuild(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_published_table_is_one_more_context(study):
    said = study.transfer("study", "narang2021", name="with").path.read_text()
    assert "| study/small | narang2021 |" in said and "| study/small | narang2021, early |" in said
    assert "in 5 contexts" in said  # it takes no part in the verdicts


def test_rows_are_matched_by_what_they_change_whatever_they_are_called(tmp_path):
    one = Study(tmp_path, "one", {"small": CONTEXTS["small"], "adam": CONTEXTS["adam"]}, rungs=())
    Study(tmp_path, "two", {"books": CONTEXTS["books"], "causal": CONTEXTS["causal"]}, rungs=(), rename=str.lower)
    found = one.transfer("one", "two").found
    assert found.labels == [*GAINS] and found.unit == NATS
    assert [context.name for context in found.contexts] == ["one/small", "one/adam", "two/books", "two/causal"]
    assert np.isfinite(found.effects).all()
    assert verdicts(found)["SwiGLU"] == "transfers"
    swiglu = found.rows[0].together
    assert swiglu.mean == pytest.approx(SLOPE * 0.3, abs=0.01)  # in nats, positive where it is better


def test_a_context_without_rungs_makes_all_of_them_nats(tmp_path):
    one = Study(tmp_path, "one", {"small": CONTEXTS["small"]}, rungs=(0.5, 2.0))
    Study(tmp_path, "two", {"books": CONTEXTS["books"]}, rungs=())
    report = one.transfer("one", "two")
    said = report.path.read_text()
    assert report.found.unit == NATS and "because two/books has no rungs of the baseline" in said
    assert "fewer than 4 contexts there is no prediction interval" in said
    assert TRANSFER not in {row.verdict for row in report.found.rows}


TRANSFER = "transfers"


def test_a_committed_report_alone_is_a_context(tmp_path):
    """Of a sweep without a file, whose runs are gone."""
    study = Study(tmp_path, "one", {"small": CONTEXTS["small"], "adam": CONTEXTS["adam"]}, rungs=())
    from ablate.report.build import build as report_of

    for context in ("small", "adam"):
        report_of(f"one/{context}", study.runs, study.reports, study.sweeps)
    shutil.rmtree(study.runs)
    assert len(study.transfer("one").found.contexts) == 2
    (study.sweeps / "one.yaml").unlink()
    assert len(study.transfer("one/small", "one/adam", name="again").found.contexts) == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["studi"], "no sweep 'studi'"),
        (["study/small"], "there are no two contexts with runs to compare"),
        (["narang2021"], "there are no two contexts with runs to compare"),
        (["study", "as=a/b"], "a sweep's name has"),
        (["study", "as=a", "as=b"], "as is given twice"),
        ([], "takes the names of one or more sweeps"),
        (["study", "norm=rmsnorm"], "only paths.runs"),
    ],
)
def test_what_is_refused(study, names, said, capsys):
    paths = [f"paths.{key}={getattr(study, key)}" for key in ("runs", "reports", "sweeps")]
    assert run(["transfer", *names, *paths]) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1


def test_the_command_prints_what_it_found(study, capsys):
    paths = [f"paths.{key}={getattr(study, key)}" for key in ("runs", "reports", "sweeps")]
    assert run(["transfer", "study", "as=said", *paths]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Of 4 changes in 5 contexts, 2 transfer, 1 flips and 1 is undecided."
    assert said[-1].endswith("transfer-said/report.md")


@pytest.mark.parametrize(
    ("key", "axis"),
    [
        ("shape", "size"), ("shape.d_model", "size"), ("shape.steps", "tokens"), ("trainer.steps", "tokens"),
        ("topology", "objective"), ("objective.length", "objective"), ("data.files", "text"), ("tokenizer", "text"),
        ("optimizer.beta1", "recipe"), ("schedule", "recipe"),
        ("norm", "architecture"), ("block.placement", "architecture"),
        ("seed.init", ""), ("evaluation.heldout.tokens", ""), ("trainer.precision", ""),
    ],
)  # fmt: skip
def test_the_axis_of_an_override(key, axis):
    assert axis_of(key) == axis


def test_contexts_that_differ():
    one = Context("one", ("shape.n_layers=2", "norm=rmsnorm"), {}, tokens=100.0)
    assert one.differs_in(Context("two", ("shape.n_layers=4", "norm=rmsnorm"), {}, tokens=100.0)) == ["size"]
    assert one.differs_in(Context("two", ("shape.n_layers=4", "norm=rmsnorm"), {}, tokens=200.0)) == ["size", "tokens"]
    assert one.differs_in(Context("two", one.base, {}, tokens=100.0)) == []
    assert one.differs_in(Context("two", ("shape.n_layers=2",), {}, tokens=100.0)) == ["architecture"]


def test_cells():
    assert (
        csv_tables._cell(math.nan) == "" and csv_tables._cell(0.5) == "0.5" and csv_tables._cell("=1+1").startswith("'")
    )


def test_a_name_is_needed(study):
    with pytest.raises(UserError, match="takes the names"):
        build.build((), study.runs, study.reports, study.sweeps)
