"""A sweep over another: what it gives replaces, what it does not give stays."""

import pytest

from ablate import packaged
from ablate.errors import UserError
from ablate.study import definition

PARENT = """
question: Which activation?
base: [shape=nano, data=builtin]
baseline: ReLU
rows:
  ReLU: []
  SwiGLU: [activation=swiglu]
seeds: {baseline: 3, rows: 2}
early_fraction: 0.25
"""


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.yaml").write_text(text)

    write("parent", PARENT)
    return write


def refusal(folder, name: str) -> str:
    with pytest.raises(UserError) as caught:
        definition.load(name, folder)
    return str(caught.value)


def test_keeps_what_it_does_not_give(write, tmp_path):
    write("child", "extends: parent\nbase: [shape=micro]\nearly_fraction: 0.5\n")
    child, parent = definition.load("child", tmp_path), definition.load("parent", tmp_path)
    assert (child.rows, child.question, child.seeds) == (parent.rows, parent.question, parent.seeds)
    assert (child.name, child.base, child.early_fraction) == ("child", ("shape=micro",), 0.5)


def test_one_way_of_listing_rows_replaces_another(write, tmp_path):
    write(
        "child",
        "extends: parent\nsections: {gated: {SwiGLU: [activation=swiglu]}, plain: {Swish: [activation=swish]}}\n",
    )
    assert list(definition.load("child", tmp_path).rows) == ["ReLU", "SwiGLU", "Swish"]


def test_a_mistake_is_told_with_its_own_file(write, tmp_path):
    write("child", "extends: parnt\n")
    assert "no sweep 'parnt'; did you mean 'parent'?" in refusal(tmp_path, "child")
    write("broken", PARENT.replace("question", "qestion"))
    write("child", "extends: broken\n")
    assert "broken.yaml: unknown key 'qestion'; did you mean 'question'?" in refusal(tmp_path, "child")


def test_a_sweep_of_the_package_is_extended_where_none_lies_beside(write, tmp_path):
    write("child", "extends: axes\nquestion: Mine?\n")
    assert definition.load("child", tmp_path).rows == definition.load("axes", packaged.sweeps()).rows
    write("axes", PARENT)
    assert list(definition.load("child", tmp_path).rows) == ["ReLU", "SwiGLU"]
    write("child", "extends: axs\n")
    told = refusal(tmp_path, "child")
    assert "no sweep 'axs'; did you mean 'axes'? (there are: axes, child, parent, activations" in told


def test_a_sweep_of_the_package_extends_those_of_the_package(write, tmp_path):
    write("narang2021", PARENT)
    assert len(definition.load("narang2021-nano", tmp_path).rows) > 50


def test_a_circle_is_refused(write, tmp_path):
    write("a", "extends: b\n")
    write("b", "extends: a\n")
    assert "extends must name another sweep" in refusal(tmp_path, "a")


def test_rows_are_added_changed_and_dropped(write, tmp_path):
    write("child", "extends: parent\nadd: {Swish: [activation=swish], SwiGLU: [activation=swiglu, bias=none]}\n")
    child = definition.load("child", tmp_path)
    assert child.rows == {"ReLU": (), "SwiGLU": ("activation=swiglu", "bias=none"), "Swish": ("activation=swish",)}
    write("grandchild", "extends: child\ndrop: [SwiGLU]\n")
    assert list(definition.load("grandchild", tmp_path).rows) == ["ReLU", "Swish"]
    assert definition.load("parent", tmp_path).rows == {"ReLU": (), "SwiGLU": ("activation=swiglu",)}


def test_rows_are_added_to_sections(write, tmp_path):
    sections = "sections: {gated: {SwiGLU: [activation=swiglu]}, plain: {Swish: [activation=swish]}}\n"
    write("middle", f"extends: parent\n{sections}")
    write(
        "child", "extends: middle\nadd: {gated: {GLU: [activation=glu]}, norm: {RMS: [norm=rmsnorm]}}\ndrop: [Swish]\n"
    )
    child = definition.load("child", tmp_path)
    assert {label: section for label, section in child.sections.items() if label != "ReLU"} == {
        "SwiGLU": "gated", "GLU": "gated", "RMS": "norm"
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, told",
    [
        ("extends: parent\ndrop: [SwiGLu]\n", "drop: no row 'SwiGLu'; did you mean 'SwiGLU'?"),
        ("extends: parent\ndrop: SwiGLU\n", "drop must be a list of labels"),
        ("extends: parent\nadd: [SwiGLU]\n", "add must hold rows such as"),
        ("extends: parent\nadd: {}\nrows: {ReLU: [], GLU: [activation=glu]}\n", "cannot list rows of its own as well"),
        ("extends: grid\nadd: {GLU: [activation=glu]}\n", "add and drop need a sweep that lists its rows"),
        ("extends: grid\ndrop: [ReLU]\n", "add and drop need a sweep that lists its rows"),
        ("extends: 3\n", "extends must name another sweep, and is 3"),
        (PARENT + "add: {GLU: [activation=glu]}\n", "name it with extends"),
    ],
)
def test_what_cannot_be_added_or_dropped(write, tmp_path, text, told):
    write("grid", "question: q\ngrid: {activation: [relu, swiglu]}\n")
    write("child", text)
    assert told in refusal(tmp_path, "child")
