"""What a sweep file expects of a row: read, refused, and no part of what a run is."""

from pathlib import Path

import pytest

from ablate.errors import UserError
from ablate.study.definition import parse
from ablate.study.expectations import Expectation


def read(row, baseline="[]"):
    text = f"question: Which?\nbaseline: Base\nrows:\n  Base: {baseline}\n  Post-norm: {row}\n"
    return parse("try", text, Path("sweeps/try.yaml"))


def refusal(*rows):
    with pytest.raises(UserError) as caught:
        read(*rows)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("sweeps/try.yaml: ")


def row(expect):
    return f"{{overrides: [block.placement=post], expect: {expect}}}"


def test_a_row_says_what_is_expected_and_by_whom():
    sweep = read(row("{worse: ' Xiong et al. 2020 '}"))
    assert sweep.expected == {"Post-norm": Expectation("worse", "Xiong et al. 2020")}
    assert sweep.rows == read("[block.placement=post]").rows and not read("[block.placement=post]").expected


@pytest.mark.parametrize(
    ("expect", "told"),
    [
        (
            "worse",
            "'Post-norm': expect must be such as {worse: \"Xiong et al. 2020, arXiv:2002.04745\"}, and is 'worse'",
        ),
        ("{worse: a, better: b}", "expect must be such as"),
        ("{wors: Xiong}", "expect: 'wors' is none of better, worse, equal; did you mean 'worse'?"),
        ("{worse: }", "expect: worse needs the source that says so, as text, and has None"),
        ("{worse: 2020}", "needs the source"),
        ("{equal: ' '}", "needs the source"),
    ],
)
def test_what_is_no_expectation_is_refused(expect, told):
    assert told in refusal(row(expect))


def test_nothing_is_expected_of_the_baseline():
    assert "the baseline is compared with no row" in refusal("[norm=none]", "{expect: {equal: me}}")
