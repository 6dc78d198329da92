"""How long a sweep will take, and what a plan tries before it says so."""

import json

import pytest

from ablate import machine
from ablate.config import compose_resolved
from ablate.errors import UserError
from ablate.sweep import estimates, timing, trials
from ablate.sweep.describe import describe
from ablate.sweep.rehearsal import rehearse
from ablate.sweep.trials import Trial
from tests.run.sealed import sealed
from tests.sweep.conftest import PROGRAM, SWEEP

pytestmark = pytest.mark.timeout(60)


def measure(place, *extra, measures=True, **options):
    import io

    out = io.StringIO()
    code = rehearse("try", [*place.overrides, *extra], measures=measures, program=PROGRAM, out=out, **options)
    return code, out.getvalue()


def test_a_run_takes_its_start_its_steps_and_its_evaluations():
    config = {"trainer": {"steps": 100, "evaluate_every": None}, "early_fraction": 0.125, "evaluation": {}}
    assert Trial(start=2.0, step=0.1, evaluation=1.0).whole(config) == pytest.approx(2 + 10 + 2)
    config["trainer"]["evaluate_every"] = 25
    assert Trial(start=2.0, step=0.1, evaluation=1.0).whole(config) == pytest.approx(2 + 10 + 5)  # 12, 25, 50, 75, 100


def test_the_evaluations_besides_and_their_points_count():
    config = compose_resolved(["evaluation=[heldout,by_position]", "evaluation.by_position.at=[0.25,0.5,1]"])
    config["trainer"] |= {"steps": 100, "evaluate_every": None, "checkpoint_every": None}
    trial = Trial(start=2.0, step=0.1, evaluation=1.0, save=0.5, scores={"by_position": 4.0})
    # two held-out losses; the evaluation at two points and in the end; a checkpoint at each, and the weights
    assert trial.whole(config) == pytest.approx(2 + 10 + 2 + 3 * 4 + 3 * 0.5)
    config["trainer"]["checkpoint_every"] = 10
    assert trial.whole(config) == pytest.approx(2 + 10 + 2 + 3 * 4 + 13 * 0.5)


def test_what_was_not_waited_for_is_named(place, monkeypatch):
    monkeypatch.setattr(trials.Trials, "cut", ["superglue"])
    assert "; at least, as not waited for: superglue" in measure(place)[1]


def test_the_hours_of_devices_are_said(place, monkeypatch):
    said = measure(place, "trainer.steps=36000", "trainer.accelerator=cpu", jobs=1)[1]
    hours = (4 * 3600 + 3600) / 3600  # a step of Base or Gelu takes a tenth of a second, of Rms twice that
    found = float(said.partition(" core-hours")[0].rpartition(" ")[2])
    threads = min(machine.threads(), machine.cores())
    assert 0.9 * hours * threads < found < 1.3 * hours * threads + 1


def test_the_plan_is_measured_row_by_row(place):
    code, said = measure(place, "trainer.steps=100")
    assert code == 0
    assert sorted(place.trace("try")) == ["Base", "Gelu", "Rms"]
    # 14 s for each of two runs of Base and one of Gelu, 24 s for Rms; the first and last steps are evaluated
    assert "4 runs of about 16 s, timing pass 60 s, report 5 s; measured by a few steps of 3 rows" in said
    assert "time: about 2 min with jobs=2" in said
    assert place.trace("start") == [] and not place.runs.exists()


def test_only_what_is_left_is_measured(place):
    place.drive(only="Base,Rms")
    measure(place)
    assert place.trace("try") == ["Gelu"]


def test_a_row_that_cannot_be_measured_is_named(place):
    place.behave(Gelu="exit")
    code, said = measure(place)
    assert code == 0 and "not measured: Gelu: exit code 7" in said and "a few steps of 2 rows" in said


@pytest.mark.parametrize("measures", [True, False])
def test_what_a_sweep_refuses_is_refused(place, measures):
    place.behave(preparing=["Gelu: cannot be built"])
    with pytest.raises(UserError, match="Gelu: cannot be built"):
        measure(place, measures=measures)
    place.behave()
    place.drive()
    with pytest.raises(UserError, match="trainer.steps was 200, is 7"):
        measure(place, "trainer.steps=7", measures=measures)
    assert measure(place, "trainer.steps=7", measures=measures, replace=True)[0] == 0
    assert bool(place.trace("try")) == measures
    assert not [*place.runs.glob("try/*/seed-0.replaced-*")]


def test_other_sweeps_say_how_long_but_their_start_does_not_grow_with_the_steps(place):
    place.drive()
    for path in place.runs.glob("try/*/seed-*/record.json"):
        record = json.loads(path.read_text()) | {"seconds": 60.0, "step": 200}
        record["loss"] |= {"final_step": 200}
        record["steps_per_second"] = {"median": 4.0}  # 50 s of steps, 10 s besides
        path.write_text(sealed(record))
    (place.folder / "sweeps" / "other.yaml").write_text(SWEEP)
    said = describe("other", [*place.overrides, "trainer.steps=400"])
    assert "4 runs of about 2 min, timing pass" in said and "judged by 4 runs of the same shape in other sweeps" in said
    said = describe("other", [*place.overrides, "trainer.steps=20"])
    assert "4 runs of about 15 s" in said


def test_the_noise_is_not_that_of_another_sweep(place):
    place.write(SWEEP.replace("baseline: 2, rows: 1", "baseline: 3, rows: 3"))
    place.drive()
    (place.folder / "sweeps" / "other.yaml").write_text(SWEEP.replace("baseline: 2, rows: 1", "baseline: 3, rows: 3"))
    said = describe("other", place.overrides)
    assert "detects: not known: the noise is not measured until two rows have two seeds" in said


def test_the_timing_pass_is_forecast_as_it_is_bounded():
    assert timing.forecast(spent=10_000.0, rows=3) == pytest.approx(5 * 3 * (timing.START + timing.LONGEST))
    assert timing.forecast(spent=100.0, rows=1000) == timing.LEAST
    assert estimates.report(1000) > estimates.report(10)


def test_a_row_that_is_the_baseline_in_other_words_is_flagged(place):
    place.write(SWEEP.replace("norm=rmsnorm", "norm=layernorm"))
    said = describe("try", place.overrides)
    assert "try: 'Rms' is 'Base' in other words: its runs would be the same runs" in said
    assert "'Gelu' is" not in said
