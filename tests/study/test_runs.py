"""Sweep files: what is read, what is refused and how, and the order of the runs."""

from pathlib import Path

import pytest

from ablate import packaged
from ablate.errors import UserError
from ablate.study import definition, rows, runs
from ablate.study.definition import parse

GOOD = """
question: Which activation?
base: [shape=nano, data=builtin]
baseline: ReLU
rows:
  GELU: [activation=gelu]
  ReLU: []
  SwiGLU: [activation=swiglu]
seeds: {baseline: 3, rows: 2}
early_fraction: 0.25
"""


def read(text: str) -> definition.Sweep:
    return parse("try", text, Path("sweeps/try.yaml"))


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_a_sweep():
    sweep = read(GOOD)
    assert list(sweep.rows) == ["ReLU", "GELU", "SwiGLU"]
    assert sweep.rows["SwiGLU"] == ("activation=swiglu",)
    assert sweep.sections == {"ReLU": "baseline", "GELU": "rows", "SwiGLU": "rows"}
    assert (sweep.seeds.baseline, sweep.seeds.rows, sweep.early_fraction) == (3, 2, 0.25)


def test_baseline_and_first_seeds_come_first_and_extra_baseline_seeds_last():
    order = [(run.row, run.seed) for run in runs.planned(read(GOOD))]
    assert order == [
        ("ReLU", 0), ("GELU", 0), ("SwiGLU", 0),
        ("ReLU", 1), ("GELU", 1), ("SwiGLU", 1),
        ("ReLU", 2),
    ]  # fmt: skip


def test_a_run_is_given_base_then_extra_then_row():
    run = runs.planned(read(GOOD), ["shape=micro", "trainer.steps=7", "activation=elu", "early_fraction=0.5"])[2]
    assert run.overrides == (
        "data=builtin", "shape=micro", "trainer.steps=7", "early_fraction=0.5",
        "activation=swiglu", "sweep=try", "row='SwiGLU'", "seed.base=0",
    )  # fmt: skip


@pytest.mark.parametrize("label", ["a'b", "a\\", "x, y [z] {w}: *~+", '"q"', "null", "'q'", "ä 100%"])
def test_any_label_reaches_the_config_as_it_is(label):
    from ablate.config import compose

    sweep = read(GOOD.replace("GELU:", f"{_yaml(label)}:"))
    run = next(run for run in runs.planned(sweep) if run.row == label)
    assert compose([text for text in run.overrides if text.startswith(("sweep", "row", "seed"))]).row == label


def _yaml(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"


@pytest.mark.parametrize("extra", ["seed=1", "seed.base=1", "row=x", "sweep=y"])
def test_what_the_sweep_gives_cannot_be_overridden(extra):
    with pytest.raises(UserError, match="given by the sweep"):
        runs.planned(read(GOOD), [extra])


def test_a_row_that_is_not_there_names_the_nearest():
    with pytest.raises(UserError, match="^no row 'SwiGLUU' in try; did you mean 'SwiGLU'"):
        runs.overrides(read(GOOD), "SwiGLUU", 0)


def test_only_selects_labels_and_globs():
    sweep = read(GOOD)
    assert runs.select(sweep, "GELU") == ["GELU"]
    assert runs.select(sweep, "*LU") == ["ReLU", "GELU", "SwiGLU"]
    assert runs.select(sweep, "SwiGLU, ReLU") == ["ReLU", "SwiGLU"]
    assert runs.select(sweep, ["S*"]) == ["SwiGLU"]
    with pytest.raises(UserError, match="no row 'SwiGlu'.*did you mean 'SwiGLU'"):
        runs.select(sweep, "SwiGlu")


def test_only_takes_a_label_with_a_comma_and_brackets():
    sweep = read(GOOD.replace("GELU:", "'a, [b]':"))
    assert runs.select(sweep, "a, [b]") == ["a, [b]"]


GRID = """
question: Do they add up?
base: [norm=rmsnorm]
grid: {norm: [layernorm, rmsnorm], activation: [relu, swiglu], keep_checkpoints: [none, weights]}
"""


def test_a_grid_is_the_full_cross_product_and_its_baseline_is_the_base():
    sweep = read(GRID)
    assert len(sweep.rows) == 8
    assert sweep.baseline == next(iter(sweep.rows)) == "norm=rmsnorm activation=relu keep_checkpoints=weights"
    assert sweep.rows["norm=layernorm activation=swiglu keep_checkpoints=none"] == (
        "norm=layernorm", "activation=swiglu", "keep_checkpoints=none",
    )  # fmt: skip
    assert runs.planned(sweep)[0].overrides.count("norm=rmsnorm") == 1


def test_a_grid_without_the_base_is_refused_unless_it_names_a_baseline():
    without = GRID.replace("[layernorm, rmsnorm]", "[layernorm, scalenorm]")
    assert "the base has norm=rmsnorm, which is not among layernorm, scalenorm" in refusal(without)
    named = read(without + 'baseline: "norm=scalenorm activation=relu keep_checkpoints=none"\n')
    assert next(iter(named.rows)) == "norm=scalenorm activation=relu keep_checkpoints=none"


def test_sections():
    sweep = read(
        "question: q\nbaseline: B\nsections:\n  norm: {R: [norm=rmsnorm]}\n  activation: {G: [activation=gelu]}\n"
    )
    assert list(sweep.rows) == ["B", "R", "G"]
    assert sweep.rows["B"] == ()
    assert sweep.sections == {"B": "baseline", "R": "norm", "G": "activation"}


AXES = "question: q\ngrid: {{{}}}\n"
MISTAKES = {
    "another program's key": (GOOD + "epochs: 3", "unknown key 'epochs'; training is counted in steps: set tr"),
    "another program's axis": ("question: q\ngrid: {lr: [1, 2]}", "grid: there is no key 'lr'; the peak learning rate"),
    "unknown key": (GOOD + "seedz: 3", "unknown key 'seedz'; did you mean 'seeds'"),
    "yaml": (GOOD + "early_fraction: [0.1", "line "),
    "yaml again": ("question: a: b\n", "line 1"),
    "twice": (GOOD.replace("  ReLU: []", "  ReLU: []\n  GELU: [activation=elu]"), "line 8: 'GELU' is there twice"),
    "not text": (GOOD.replace("GELU:", "1:"), "line 6: key 1 is not text; put it in quotes"),
    "no mapping": ("- a", "a sweep file is a mapping"),
    "empty": ("", "a sweep file is a mapping"),
    "a number for notes": (GOOD + "notes: 3", "notes must be text, and is 3"),
    "a list for the question": (GOOD.replace("Which activation?", "[a]"), "question must be text, and is ['a']"),
    "a number for the baseline": (GOOD.replace("baseline: ReLU", "baseline: 7"), "baseline must be text, and is 7"),
    "no question": (GOOD.replace("question", "notes"), "question is missing"),
    "no baseline": (GOOD.replace("baseline: ReLU", ""), "baseline is missing"),
    "wrong baseline": (GOOD.replace("baseline: ReLU", "baseline: Relu"), "did you mean 'ReLU'"),
    "tuned": (GOOD + "protocol: tuned", "protocol 'tuned' is not there yet"),
    "protocol": (GOOD + "protocol: x", "protocol 'x' is unknown"),
    "both": (GOOD + "grid: {norm: [a]}", "give one of rows, grid or sections; there is rows and grid"),
    "none": ("question: q\nbaseline: B", "there is none of them"),
    "no sections": ("question: q\nbaseline: B\nsections: [a]", "sections must hold sections of rows"),
    "empty sections": ("question: q\nbaseline: B\nsections: {}", "sections must hold sections of rows"),
    "no rows in a section": ("question: q\nbaseline: B\nsections: {norm: [a]}", "norm must hold rows such as"),
    "in two sections": (
        "question: q\nbaseline: B\nsections: {a: {R: [norm=rmsnorm]}, b: {R: [norm=rmsnorm]}}",
        "'R' is in a and in b",
    ),
    "in its own section and in that of the baseline": (
        "question: q\nbaseline: B\nsections: {a: {B: [], R: [norm=rmsnorm]}, b: {B: []}}",
        "'B' is in a and in b",
    ),
    "paths": (GOOD.replace("activation=gelu", "paths.runs=x"), "'GELU': paths.runs says where a machine keeps things"),
    "only baseline": ("question: q\nbaseline: B\nrows: {B: []}", "nothing but the baseline"),
    "no list": (GOOD.replace("[activation=gelu]", "activation=gelu"), "must be a list of overrides"),
    "no override": (GOOD.replace("activation=gelu", "gelu"), "'gelu' is not an override"),
    "map": (GOOD.replace("activation=gelu", "{a: b}"), "is not an override"),
    "twice in row": (GOOD.replace("=gelu]", "=gelu, activation=elu]"), "'GELU': activation is set twice"),
    "no change": (GOOD.replace("[activation=gelu]", "[]"), "'GELU' changes nothing"),
    "shape": (GOOD.replace("activation=gelu", "shape.d_ff=8"), "no row changes the shape"),
    "seed": (GOOD.replace("activation=gelu", "seed=8"), "seed.base is given by the sweep"),
    "seeds": (GOOD.replace("rows: 2", "row: 2"), "seeds: unknown key 'row'; did you mean 'rows'"),
    "seeds zero": (GOOD.replace("rows: 2", "rows: 0"), "at least 1"),
    "seeds few": (GOOD.replace("rows: 2", "rows: 4"), "the baseline needs at least as many"),
    "seeds many": (GOOD.replace("{baseline: 3, rows: 2}", "{baseline: 1000000000}"), "baseline must be at most 1,000"),
    "seeds more": (GOOD.replace("rows: 2", "rows: 1000000000"), "rows must be at most 1,000, and is 1000000000"),
    "seeds beyond": (GOOD.replace("rows: 2", f"rows: {'9' * 5000}"), "a number has 5,000 characters"),
    "seeds list": (GOOD.replace("{baseline: 3, rows: 2}", "[1000000000]"), "seeds must be such as"),
    "runs": (AXES.format(f"a: {[*range(1000)]}") + "baseline: a=1\nseeds: {baseline: 900, rows: 900}", "900,000 runs"),
    "grid large": (AXES.format(", ".join(f"a{i}: {[*range(10)]}" for i in range(9))), "1,000,000,000 points"),
    "laughs": ("a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i},*a{i}]\n" for i in range(20)), "repeats values"),
    "seeds no map": (GOOD.replace("{baseline: 3, rows: 2}", "3"), "seeds must be such as"),
    "early": (GOOD.replace("0.25", "1.5"), "early_fraction must be between 0 and 1"),
    "an old name": (GOOD.replace("early_fraction", "early"), "early is now called early_fraction"),
    "reference": (GOOD + "reference: narang", "no reference 'narang'"),
    "label": (GOOD.replace("GELU:", '"a\\nb":'), "cannot label a row"),
    "interpolation": (GOOD.replace("GELU:", "'${seed.base}':"), "cannot label a row"),
    "grid value": ("question: q\ngrid: {norm: [[a]]}", "cannot be a value of an axis"),
    "no grid": ("question: q\ngrid: [norm]", "grid must hold axes such as"),
    "empty grid": ("question: q\ngrid: {}", "grid must hold axes such as"),
    "empty axis": ("question: q\ngrid: {norm: []}", "norm must be a list of values, and is []"),
    "empty value": ("question: q\ngrid: {norm: ['']}", "norm: '' cannot be a value of an axis"),
    "an axis of the shape": ("question: q\ngrid: {shape.d_ff: [64, 128]}", "no row changes the shape"),
    "an axis that the sweep gives": ("question: q\ngrid: {seed.base: [0, 1]}", "seed.base is given by the sweep"),
    "no point": (GRID + "baseline: norm=rmsnorm\n", "no point 'norm=rmsnorm' in the grid"),
    "grid twice": ("question: q\ngrid: {norm: [a, a]}", "has a value twice"),
    "grid scalar": ("question: q\ngrid: {norm: a}", "must be a list of values"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_gets_one_line_that_names_it(text, expected):
    line = refusal(text)
    assert line.startswith("sweeps/try.yaml") and expected in line


def test_the_most_that_a_sweep_may_have():
    wide = AXES.format(f"a: {[*range(1002)]}") + "baseline: a=1\nseeds: {baseline: %d, rows: 99}"
    assert len(read(wide % 901).rows) == 1002  # 901 + 1001 x 99 = 100,000 runs
    assert "1,002 rows with their seeds are 100,001 runs; at most 100,000 are planned" in refusal(wide % 902)
    few = GOOD.replace("{baseline: 3, rows: 2}", "{baseline: %d, rows: %d}")
    assert read(few % (1000, 1000)).seeds == definition.Seeds(1000, 1000)
    assert "baseline must be at most 1,000, and is 1001" in refusal(few % (1001, 1))


def test_labels_that_would_share_a_folder_are_refused(monkeypatch):
    monkeypatch.setattr(rows, "slug", str.casefold)
    line = refusal(GOOD.replace("SwiGLU", "gelu"))
    assert "'gelu' and 'GELU' would share the folder 'gelu'" in line


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"question: \xff")])
def test_a_file_that_cannot_be_read_is_named(make, tmp_path):
    make(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match="mine.yaml.* cannot be read: "):
        definition.load("mine", tmp_path)


def test_an_unknown_sweep_names_the_nearest(tmp_path):
    (tmp_path / "axes.yaml").write_text(GOOD)
    with pytest.raises(UserError, match="no sweep 'axs' in .*did you mean 'axes'"):
        definition.load("axs", tmp_path)
    assert definition.load("axes", tmp_path).name == "axes"


def test_a_sweep_of_the_package_is_found_where_the_folder_has_none_of_its_name(tmp_path):
    found = definition.load("axes", tmp_path)
    assert found.path == packaged.sweeps() / "axes.yaml" and len(found.rows) > 10
    assert definition.load("axes", tmp_path / "nothing") == found
    (tmp_path / "axes.yaml").write_text(GOOD)
    assert definition.load("axes", tmp_path).path == tmp_path / "axes.yaml"
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert (
        definition.names(tmp_path)[:3] == ["axes", "mine", "activations"]
        and definition.names(tmp_path).count("axes") == 1
    )


@pytest.mark.parametrize("name", ["../axes", "/etc/x", "a/b", "", ".", "..", "a\0b", "x" * 300])
def test_a_name_cannot_leave_the_folder(name, tmp_path):
    with pytest.raises(UserError):
        definition.load(name, tmp_path)


SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sweep_of_the_project_composes(path):
    from ablate.config import compose

    sweep = definition.load(path.stem, path.parent)
    for row in sweep.rows:
        compose(runs.overrides(sweep, row, 0))
