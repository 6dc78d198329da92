"""From a config to its evaluations: what is not one is refused in a line."""

import pytest

from ablate.config import compose
from ablate.errors import UserError
from ablate.evaluation.build import build
from ablate.evaluation.by_position import LossByPosition
from ablate.evaluation.heldout import HeldOut

BOTH = "evaluation=[heldout,by_position]"


def test_each_is_made_from_its_options():
    made = build(compose([BOTH, "evaluation.by_position.bins=3", "evaluation.heldout.tokens=64"]))
    assert list(made) == ["heldout", "by_position"]
    assert isinstance(made["heldout"], HeldOut) and made["heldout"].tokens == 64
    assert isinstance(made["by_position"], LossByPosition) and made["by_position"].bins == 3


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("evaluation.by_position.bins=0", "evaluation.by_position.bins=0: must be a whole number, 1 or more"),
        (
            "evaluation.by_position._target_=ablate.run.score.Curve",
            "evaluation.by_position._target_=ablate.run.score.Curve: is no option of evaluation "  # noqa: ISC004
            "(see ablate options evaluation)",
        ),
        (
            "evaluation.by_position._target_=tests.evaluation.test_build.Stranger",
            "evaluation=by_position: tests.evaluation.test_build.Stranger has no evaluate; "  # noqa: ISC004
            "inherit ablate.evaluation.contract.Evaluation, or declare it",
        ),
    ],
)
def test_what_is_not_an_evaluation_is_refused(override, line, monkeypatch):
    monkeypatch.setenv("ABLATE_PLUGINS", "tests")
    with pytest.raises(UserError) as refused:
        build(compose([BOTH, override]))
    assert str(refused.value) == line


class Stranger:
    """Takes the options, and is something else."""

    def __init__(self, **options):
        pass
