"""Which seeds a sweep has within a time, and the note of it."""

import json

import pytest

from ablate.study import budget
from ablate.study.budget import Budget, fewer
from ablate.study.definition import Seeds


def numbers(baseline, rows):
    return [(seeds.baseline, seeds.rows) for seeds in fewer(Seeds(baseline, rows))]


def test_every_row_alike_down_to_three_and_then_the_baseline():
    assert numbers(10, 5) == [(10, 5), (10, 4), (10, 3), (9, 3), (8, 3), (7, 3), (6, 3), (5, 3), (4, 3), (3, 3)]
    assert numbers(5, 5) == [(5, 5), (5, 4), (5, 3), (4, 3), (3, 3)]


def test_where_there_are_fewer_to_begin_with():
    assert numbers(5, 2) == [(5, 2), (4, 2), (3, 2)]
    assert numbers(1, 1) == [(1, 1)]


def test_the_note_is_kept_and_taken_away(tmp_path):
    note = Budget(7200, 6800.5, Seeds(10, 5), Seeds(9, 3))
    budget.write(tmp_path, note)
    assert budget.read(tmp_path) == note
    budget.write(tmp_path, None)
    assert budget.read(tmp_path) is None
    budget.write(tmp_path, None)


@pytest.mark.parametrize(
    "change",
    [{"seconds": -1}, {"seconds": "2h"}, {"forecast": None}, {"left": {"baseline": 3}},
     {"asked": {"baseline": 3, "rows": 0}}, {"left": {"baseline": True, "rows": 1}}, {"more": 1}],
)  # fmt: skip
def test_what_is_no_note_is_none(tmp_path, change):
    content = {**Budget(7200, 6800.5, Seeds(10, 5), Seeds(9, 3)).to_json(), **change}
    (tmp_path / budget.FILE).write_text(json.dumps(content))
    assert budget.read(tmp_path) is None
