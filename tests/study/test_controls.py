"""What a row is compared with, as the sweep file says: for a row, for a section, and what is refused."""

from pathlib import Path

import pytest

from ablate.errors import UserError
from ablate.study import definition
from ablate.study.definition import parse

ADAM = "{counts: false, overrides: [optimizer=adam]}"
REZERO = "{against: Adam, overrides: [optimizer=adam, residual=rezero]}"


def sections(*members, head=""):
    text = "".join(f"    {member}\n" for member in members)
    return (
        f"question: Which?\nbaseline: Base\n{head}sections:\n  residual:\n{text}  norm:\n    RMS norm: [norm=rmsnorm]\n"
    )


def read(text):
    return parse("try", text, Path("sweeps/try.yaml"))


def refusal(text):
    with pytest.raises(UserError) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("sweeps/try.yaml: ")


def test_a_row_names_its_control():
    sweep = read(sections(f"Adam: {ADAM}", f"Rezero: {REZERO}"))
    assert sweep.rows["Rezero"] == ("optimizer=adam", "residual=rezero")
    assert (sweep.against, sweep.uncounted) == ({"Rezero": "Adam"}, {"Adam"})


def test_a_section_names_the_control_of_its_rows():
    """The control itself, where it is in the section, is compared with the baseline; a row's own word is stronger."""
    sweep = read(
        sections(
            "against: Adam",
            "Adam: [optimizer=adam]",
            "Rezero: [residual=rezero]",
            "DeepNorm: {against: Base, overrides: [residual=deepnorm]}",
        )
    )
    assert (sweep.against, sweep.uncounted) == ({"Rezero": "Adam"}, set())


def test_rows_may_follow_each_other():
    sweep = read(sections("One: [norm=none]", "Two: {against: One, overrides: [bias=none]}"))
    assert sweep.against == {"Two": "One"}


def test_a_row_may_be_called_like_a_setting():
    assert "against" in read(sections("against: [norm=none]")).rows


@pytest.mark.parametrize(
    "members, line",
    [
        ([REZERO.join(["Rezero: ", ""])], "'Rezero': against: no row 'Adam'"),
        (["Adam: [norm=none]", "R: {against: Adm, overrides: [bias=none]}"], "no row 'Adm'; did you mean 'Adam'?"),
        (["One: {against: One, overrides: [norm=none]}"], "'One': against: a row cannot be compared with itself"),
        (
            ["A: {against: B, overrides: [norm=none]}", "B: {against: A, overrides: [bias=none]}"],
            "against goes in a circle: 'A', 'B', 'A'",
        ),
        (["Base: {against: RMS norm, overrides: []}"], "'Base': against: the baseline is compared with no row"),
        (["One: {against: [Base], overrides: [norm=none]}"], "against must be the label of a row"),
        (["One: {counts: 0, overrides: [norm=none]}"], "'One': counts must be true or false, and is 0"),
        (["One: {againts: Base, overrides: [norm=none]}"], "unknown key 'againts'; did you mean 'against'?"),
        (["One: {against: Base}"], "'One' changes nothing"),
        (["against: Base"], "residual must hold rows"),
    ],
)
def test_what_is_refused(members, line):
    assert line in refusal(sections(*members))


def test_a_control_that_is_dropped_is_missed(tmp_path):
    (tmp_path / "one.yaml").write_text(sections(f"Adam: {ADAM}", f"Rezero: {REZERO}"))
    (tmp_path / "two.yaml").write_text("extends: one\ndrop: [Adam]\n")
    with pytest.raises(UserError, match="'Rezero': against: no row 'Adam'"):
        definition.load("two", tmp_path)


def test_the_margin_within_which_rows_are_the_same():
    assert read(sections("One: [norm=none]", head="same_within: 0.02\n")).same_within == 0.02
    assert read(sections("One: [norm=none]")).same_within is None
    for wrong in ("0", "-1", "true", "small", ".inf"):
        line = refusal(sections("One: [norm=none]", head=f"same_within: {wrong}\n"))
        assert line.startswith("same_within must be a positive number of nats per token")


@pytest.mark.parametrize("name", ["axes_all", "narang2021", "narang2021-nano", "narang2021_learned_positions"])
def test_rows_that_bring_adam_are_compared_with_it(name):
    sweep = definition.load(name)
    with_adam = {row for row, given in sweep.rows.items() if "optimizer=adam" in given} - {"Adam"}
    assert with_adam and sweep.against == dict.fromkeys(with_adam, "Adam") and sweep.uncounted == {"Adam"}
