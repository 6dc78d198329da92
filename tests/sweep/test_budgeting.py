"""`budget=`: what fits into a time, of all tables and rungs, and what is kept of it."""

import io
import json

import pytest

from ablate.errors import UserError
from ablate.report.build import build
from ablate.study import budget
from ablate.sweep import budgeting
from ablate.sweep.describe import describe
from ablate.sweep.rehearsal import rehearse
from tests.sweep.conftest import PROGRAM, SWEEP

pytestmark = pytest.mark.timeout(60)
FIVE = SWEEP.replace("baseline: 2, rows: 1", "baseline: 7, rows: 5")
# The stand-in's trial: a run of Base or Gelu takes 2 + 0.1 x 10 + 2 = 5 s or so, which `plan` says


def planned(place, seconds, **options):
    out = io.StringIO()
    code = rehearse("try", place.overrides, measures=True, program=PROGRAM, out=out, budget=seconds, jobs=1, **options)
    assert code == 0
    return out.getvalue()


def whole(place, **options):
    """The seconds that all of it is forecast to take."""
    note = None

    def keep(name, outlooks, seconds, real=budgeting.fitted):
        nonlocal note
        note = real(name, outlooks, 1e9)
        return note

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budgeting, "fitted", keep)
        planned(place, 1e9, **options)
    return note.forecast


def test_a_plan_says_what_is_taken_away(place):
    place.write(FIVE)
    every = whole(place)
    assert "try: all seeds fit: about" in planned(place, every + 1)
    said = planned(place, every - 1)
    assert "try: 7 seeds of the baseline and 4 of each other row instead of 7 seeds of the baseline and 5 of" in said
    assert "15 runs (7 seeds of the baseline, 4 of each other row)" in said


def test_not_below_three_and_then_it_says_what_would_fit(place):
    place.write(FIVE)
    with pytest.raises(UserError, match=r"budget=30s is not enough: with 3 seeds of every row it .*; budget=\S+ fits"):
        planned(place, 30)
    with pytest.raises(UserError) as caught:
        planned(place, 30)
    fits = str(caught.value).partition("; budget=")[2].partition(" fits")[0]
    from ablate.duration import seconds_of

    assert "try: 3 seeds of every row instead of" in planned(place, seconds_of(fits))


def test_contexts_and_rungs_count(place):
    place.write(FIVE)
    alone = whole(place)
    place.write(FIVE + "rungs: [2]\n")
    with_rung = whole(place)
    place.write(FIVE + "contexts: {one: [seed.data=5], two: [seed.data=6]}\n")
    assert with_rung > alone + 10 and whole(place) == pytest.approx(2 * alone, rel=0.1)


def test_a_plan_that_knows_nothing_says_so(place):
    said = describe("try", place.overrides, budget=7200.0)
    assert "try: budget: how long a run takes is not known; ablate plan try --measure budget=" in said


def test_a_sweep_runs_what_fits_and_keeps_what_was_asked(place):
    place.write(FIVE)
    every = whole(place, only=None)
    code, said = place.drive(budget=every - 1, jobs=1)
    assert code == 0 and "try: 7 seeds of the baseline and 4 of each other row instead of" in said
    assert sorted(place.states()) == sorted(
        (row, seed) for row in ("Base", "Gelu", "Rms") for seed in range(7 if row == "Base" else 4)
    )
    note = budget.read(place.runs / "try")
    assert (note.asked.rows, note.left.rows, note.seconds) == (5, 4, every - 1)
    report = build("try", place.runs, place.folder / "reports", place.folder / "sweeps")
    text = report.path.read_text()
    assert "7 of 7 seeds of the baseline, 4 of 5 of every other row" in text and "is missing" not in text.replace(
        "or is missing", ""
    )
    head = json.loads((report.path.parent / "records.jsonl").read_text().splitlines()[0])
    assert head["budget"] == note.to_json() and {row["row"]: row["seeds"] for row in head["rows"]}["Rms"] == 4
    place.drive()
    assert budget.read(place.runs / "try") is None and ("Rms", 4) in place.states()
