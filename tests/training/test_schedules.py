"""Learning rates against the library that the paper ran, and by their shape."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from ablate.config import compose, fill, resolved
from ablate.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "schedules.npz"


def schedule(*overrides):
    return fill(compose(overrides), "schedule")


@pytest.mark.parametrize(
    "overrides, column",
    [
        (["schedule=inverse_sqrt"], "truncated_rsqrt_warmup10000"),
        (["schedule=inverse_sqrt_warmup"], "adam_rsqrt_times_warmup4000_times_0.05"),
        (["optimizer=adam"], "adam_rsqrt_times_warmup4000_times_0.05"),
        (["schedule=constant", "schedule.peak=5e-4", "schedule.warmup_steps=20000"], "finetune_5e-4_warmup20000"),
    ],
    ids=["inverse_sqrt", "inverse_sqrt_warmup", "adam", "constant"],
)
def test_schedules_of_the_paper(overrides, column):
    golden = np.load(GOLDEN)
    rate = schedule(*overrides)
    np.testing.assert_allclose([rate(int(step)) for step in golden["step"]], golden[column], rtol=1e-6)


def test_the_last_tenth_falls_to_zero():
    golden = np.load(GOLDEN)
    rate = schedule("schedule=inverse_sqrt_decay", "trainer.steps=524288")
    inside = golden["step"] <= 524288  # behind its end the library's rate is negative, ours zero
    found = [rate(int(step)) for step in golden["step"][inside]]
    np.testing.assert_allclose(found, golden["noam_decay_0.1"][inside], rtol=1e-5)
    assert rate(600_000) == 0


@pytest.mark.parametrize("name", ["inverse_sqrt", "inverse_sqrt_warmup"])
def test_the_schedules_of_the_paper_in_miniature(name):
    whole, small = (
        schedule(f"schedule={name}"),
        schedule(f"schedule={name}", "schedule.rate_scale=3", "schedule.step_scale=0.01"),
    )
    for step in (0, 1, 20, 40, 99, 100, 101, 655, 5000):
        assert small(step) == pytest.approx(3 * whole(100 * step))


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_schedules_rise_to_their_peak_and_fall(name):
    rate = schedule(f"schedule={name}", "trainer.steps=1000", "schedule.peak=0.5")
    rates = [rate(step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.5 / 20) and rates[19] == pytest.approx(0.5) and max(rates) == pytest.approx(0.5)
    assert all(one < other for one, other in itertools.pairwise(rates[:20]))
    assert all(one >= other for one, other in itertools.pairwise(rates[20:]))
    assert rate(1000) == pytest.approx({"cosine": 0.05, "linear": 0.0, "wsd": 0.0}[name])


@pytest.mark.parametrize(
    ("overrides", "theirs"),
    [
        (
            ["schedule=cosine", "schedule.final=0.1"],
            lambda optimizer: transformers.get_cosine_with_min_lr_schedule_with_warmup(
                optimizer, 100, 1000, min_lr_rate=0.1
            ),
        ),
        (
            ["schedule=linear", "schedule.final=0"],
            lambda optimizer: transformers.get_linear_schedule_with_warmup(optimizer, 100, 1000),
        ),
        (
            ["schedule=wsd", "schedule.decay=0.3", "schedule.final=0"],
            lambda optimizer: transformers.get_wsd_schedule(
                optimizer, 100, 300, num_training_steps=1000, decay_type="linear"
            ),
        ),
    ],
    ids=["cosine", "linear", "wsd"],
)
def test_schedules_against_transformers(overrides, theirs):
    """Theirs begins its warm-up at 0, a step before ours; from the peak on the two are the same."""
    rate = schedule(*overrides, "trainer.steps=1000", "schedule.peak=0.5", "schedule.warmup=0.1")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.5)
    (factor,) = theirs(optimizer).lr_lambdas
    expected = [0.5 * factor(step) for step in range(1001)]
    np.testing.assert_allclose([rate(step) for step in range(99)], expected[1:100], rtol=1e-12)
    np.testing.assert_allclose([rate(step) for step in range(100, 1001)], expected[100:], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_a_final_rate_above_zero_squeezes_the_fall(name):
    zero, high = (
        schedule(f"schedule={name}", "trainer.steps=200", "schedule.peak=0.5", f"schedule.final={final}")
        for final in (0, 0.2)
    )
    for step in range(10, 201):
        assert high(step) == pytest.approx(0.2 * 0.5 + 0.8 * zero(step))


def test_the_whole_of_training_may_be_the_decay():
    """The last part of the square root's decay without any, and with all."""
    whole, none, plain = (
        schedule(f"schedule=inverse_sqrt{name}", "trainer.steps=100", *more)
        for name, more in (("_decay", ["schedule.decay=1"]), ("_decay", ["schedule.decay=0"]), ("", []))
    )
    for step in (0, 1, 50, 99, 100, 150):
        assert none(step) == plain(step)
        assert whole(step) == pytest.approx(plain(step) * max(0, 1 - step / 100))


def test_wsd_keeps_its_plateau():
    rate = schedule("schedule=wsd", "trainer.steps=1000", "schedule.peak=0.5")
    assert {rate(step) for step in range(20, 801)} == {0.5}
    assert rate(900) == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["inverse_sqrt", "inverse_sqrt_warmup", "constant"])
def test_a_short_run_is_a_prefix_of_a_long_one(name):
    short, long = (schedule(f"schedule={name}", f"trainer.steps={steps}") for steps in (50, 5000))
    assert [short(step) for step in range(50)] == [long(step) for step in range(50)]


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_one_step_is_enough_for_any_schedule(name):
    assert schedule(f"schedule={name}", "trainer.steps=1")(0) > 0


def test_an_optimizer_brings_its_schedule_and_the_command_line_wins():
    assert "Cosine" in resolved(compose(["optimizer=adamw"]))["schedule"]["_target_"]
    assert "Linear" in resolved(compose(["optimizer=adamw", "schedule=linear"]))["schedule"]["_target_"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("inverse_sqrt", {"peak": 0, "timescale": 0, "warmup_steps": -1, "rate_scale": 0, "step_scale": 0}),
        ("inverse_sqrt_decay", {"peak": 0, "decay": 1.1}),
        ("constant", {"peak": -1, "warmup_steps": -1}),
        ("cosine", {"peak": 0, "warmup": 1.1, "final": 1.1}),
        ("linear", {"peak": 0, "warmup": -0.1, "final": -0.1}),
        ("wsd", {"peak": 0, "warmup": 1.1, "decay": 1.1, "final": 1.1}),
    ],
)
def test_numbers_out_of_range_are_refused(name, wrong):
    for key, value in wrong.items():
        with pytest.raises(UserError, match=rf"schedule\.{key}={value}(\.0)?: must (be|not be) "):
            compose([f"schedule={name}", f"schedule.{key}={value}"])
