"""Effects in several contexts: against statsmodels and by hand, and how often a verdict on them is wrong."""

import math

import numpy as np
import pytest
from scipy.special import fdtrc, stdtr, stdtrit
from statsmodels.stats.meta_analysis import combine_effects

from ablate.statistics.context_pairs import agreement, reliability
from ablate.statistics.random_effects import across_contexts
from ablate.statistics.transfer import FADES, FLIPS, TRANSFERS, UNDECIDED, holm, slopes, transfer
from tests.statistics.simulation import standard_error
from tests.statistics.transfer_simulation import CASES, FINDABLE, LADDERS, WORDS, Case, LadderCase


def study(contexts, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    errors = rng.uniform(0.2, 0.6, contexts)
    return 1.0 + spread * rng.normal(size=contexts) + errors * rng.normal(size=contexts), errors


@pytest.mark.parametrize("contexts", [3, 5, 9])
@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_mean_and_spread_are_those_of_statsmodels(contexts, spread):
    effects, errors = study(contexts, spread)
    theirs = combine_effects(effects, errors**2, method_re="iterated", use_t=False)
    found = across_contexts(effects, errors)
    assert found.tau**2 == pytest.approx(theirs.tau2, rel=1e-4, abs=1e-6)
    assert found.mean == pytest.approx(theirs.mean_effect_re, rel=1e-4)
    known = 1 / math.sqrt(np.sum(1 / (errors**2 + found.tau**2)))
    hksj = known * math.sqrt(max(1.0, theirs.scale_hksj_re))
    assert found.error == pytest.approx(hksj, rel=1e-3)
    assert found.high - found.low == pytest.approx(2 * hksj * stdtrit(contexts - 1, 0.975), rel=1e-3)


def test_a_prediction_interval_by_hand():
    effects, errors = study(6, 2.0)
    found = across_contexts(effects, errors)
    half = stdtrit(4, 0.975) * math.sqrt(found.tau**2 + found.error**2)
    assert (found.predicted_low, found.predicted_high) == pytest.approx((found.mean - half, found.mean + half))


def test_what_few_contexts_tell():
    effects, errors = study(3)
    assert math.isnan(across_contexts(effects, errors).predicted_low)
    assert across_contexts(effects, errors).p > 0
    alone = across_contexts(np.array([1.0, np.nan]), np.array([0.1, 0.1]))
    assert (alone.contexts, alone.mean) == (1, 1.0) and math.isnan(alone.p)
    assert across_contexts(np.array([np.nan]), np.array([np.nan])).contexts == 0
    assert not alone.is_predicted_apart_from_zero


def test_holm():
    assert holm(np.array([0.01, np.nan, 0.04, 0.03])) == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


def verdicts(effects, errors=0.1, p=None, **options):
    effects = np.array(effects, float)
    errors = np.full(effects.shape, errors)
    p = np.where(np.abs(effects) > 4 * errors, 0.001, 0.9) if p is None else np.array(p)
    return transfer(effects, errors, p, np.full(effects.shape, 6.0), **options)


def test_the_four_words():
    same = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95]
    split = [1.0, 0.9, 1.1, -1.0, -0.9, -1.1]
    fading = [1.6, 1.0, 0.4, 1.0, 1.0, 1.0]
    nothing = [0.05, -0.1, 0.1, 0.0, -0.05, 0.1]
    x = np.array([0.0, 1.4, 2.8, np.nan, np.nan, np.nan])
    found = verdicts([same, split, fading, nothing], ordered={"size": x})
    assert [row.verdict for row in found] == [TRANSFERS, FLIPS, FADES, UNDECIDED]
    assert found[1].flips_between == (5, 2)
    assert found[2].slopes["size"].slope == pytest.approx(-1.2 / 2.8) and found[2].slopes["size"].is_towards_zero
    assert not found[0].slopes["size"].p < 0.05


def test_an_effect_that_grows_does_not_fade():
    x = np.array([0.0, 1.4, 2.8, np.nan, np.nan, np.nan])
    (found,) = verdicts([[0.4, 1.0, 1.6, 1.0, 1.0, 1.0]], ordered={"size": x})
    assert found.verdict != FADES and not found.slopes["size"].is_towards_zero


def test_a_flip_needs_both_signs_after_correction_for_the_contexts():
    effects = [[1.0, -1.0, 0.9, 1.0, 1.0, 1.0]]
    assert verdicts(effects, p=[[0.001, 0.008, 0.9, 0.9, 0.9, 0.9]])[0].verdict == FLIPS
    assert verdicts(effects, p=[[0.001, 0.009, 0.9, 0.9, 0.9, 0.9]])[0].verdict != FLIPS  # 6 x 0.009 > 0.05


def test_what_an_effect_depends_on():
    effects = [[1.0, 1.1, 0.1, 0.0], [1.0, 1.1, 0.9, 1.0]]
    levels = {"objective": ["causal", "causal", "spans", "spans"], "recipe": ["a", "b", "a", None]}
    first, second = verdicts(effects, levels=levels)
    assert first.depends["objective"].is_found and not second.depends["objective"].is_found
    assert not first.depends["recipe"].is_found
    # between the means of two pairs, each of error 0.1 / sqrt 2; within them 4 degrees of freedom, and no tau^2
    assert first.depends["objective"].p == pytest.approx(fdtrc(1, 4, (1.0 / 0.1) ** 2))


def test_of_one_context_a_level_the_errors_decide():
    levels = {"text": ["web", "books", None]}
    first, second = verdicts([[1.0, 0.4, 5.0], [1.0, 0.9, 5.0]], levels=levels)
    assert first.depends["text"].p == pytest.approx(2 * stdtr(12, -0.6 / 0.1 / math.sqrt(2)))
    assert first.depends["text"].is_found and not second.depends["text"].is_found


def test_slopes_by_hand():
    x = np.array([0.0, 1.0, 2.0, np.nan])
    effects = np.array([[3.0, 2.0, 1.5, 9.0], [0.0, 0.0, 0.0, 9.0], [1.0, np.nan, 2.0, 9.0]])
    steep, flat, short = slopes(effects, np.full((3, 4), 0.1), x)
    # beside the first row's line are left 1/12, -1/6, 1/12, nothing beside the second: tau^2 makes them 2 = 2 degrees
    error2 = (2 * (1 / 12) ** 2 + (1 / 6) ** 2) / 2
    assert steep.slope == pytest.approx(-0.75) and steep.error == pytest.approx(math.sqrt(error2 / 2), rel=1e-6)
    assert steep.p == pytest.approx(2 * stdtr(2, -0.75 / steep.error)) and steep.is_towards_zero
    assert flat.slope == pytest.approx(0) and not flat.is_towards_zero and math.isnan(short.p)
    quiet = slopes(effects[1:2], np.full((1, 4), 0.1), x)[0]
    assert quiet.error == pytest.approx(0.1 / math.sqrt(2))


def test_two_contexts_that_agree_and_that_do_not():
    a = np.array([0.0, 1.0, 2.0, -1.0, 3.0])
    quiet, control = np.full(5, 0.01), np.array([0.01, 0.01])
    same = agreement(a, 2 * a, quiet, 2 * quiet, control)
    assert (same.signs, same.decisions, same.spearman) == (1, 1, pytest.approx(1)) and same.ceiling == 1
    assert same.ratio == pytest.approx(2, abs=0.01) and same.corrected == pytest.approx(1)
    other = agreement(a, -a, quiet, quiet, control)
    assert other.decisions == 0 and other.signs == 0.2 and other.spearman == pytest.approx(-1)
    one_pair = np.array([0.0, 1.0, 2.0, -1.0, 1.5])
    assert agreement(a, one_pair, quiet, quiet, control).decisions == pytest.approx(0.9)


def test_noise_sets_a_ceiling():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=12)
    noisy = np.full(12, 1.0)
    measured = [truth + noisy * rng.normal(size=12) for _ in range(2)]
    found = agreement(*measured, noisy, noisy, np.array([0.0, 0.0]))
    assert 0.5 < found.ceiling < 0.85 and found.ceiling_low < found.ceiling
    assert math.isnan(found.corrected) or found.corrected > found.pearson
    assert reliability(truth, noisy * 0) == 1


def test_rows_that_a_context_lacks_are_left_out():
    a = np.array([0.0, 1.0, np.nan, 3.0, 2.0])
    found = agreement(a, np.array([0.0, 1.0, 2.0, 3.0, np.nan]), np.full(5, 0.1), np.full(5, 0.1), np.zeros(2))
    assert found.rows == 3
    assert agreement(a[:2], a[:2], np.full(2, 0.1), np.full(2, 0.1), np.zeros(2)).rows == 2


def test_a_ladder_without_slopes_predicts_the_mean_and_with_large_ones_the_line():
    x = np.log([1.0, 4.0, 16.0])
    from ablate.statistics.ladder import Ladder

    flat = np.array([[0.2, 0.21, 0.19], [-0.1, -0.1, -0.1], [0.0, 0.01, -0.01]])
    errors, control = np.full((3, 3), 0.02), np.zeros(3)
    found = Ladder(flat, errors, control, x).predict(math.log(64))
    assert found.mean == pytest.approx(flat.mean(1), abs=0.01)
    steep = np.array([[1.0, 0.5, 0.0], [0.0, 0.5, 1.0], [0.2, 0.2, 0.2]])
    found = Ladder(steep, np.full((3, 3), 0.001), control, x).predict(math.log(64))
    assert found.mean == pytest.approx([-0.5, 1.5, 0.2], abs=0.01)
    assert (found.low < found.mean).all() and (found.mean < found.high).all()


def test_a_forecast_as_measured_is_wider_and_lacks_rows_without_an_effect():
    from ablate.statistics.ladder import Ladder

    effects = np.array([[0.2, 0.25], [0.1, np.nan], [np.nan, np.nan]])
    ladder = Ladder(effects, np.full((3, 2), 0.02), np.full(2, 0.01), np.log([1.0, 4.0]))
    true, measured = ladder.predict(2.8), ladder.predict(2.8, np.full(3, 0.05), 0.02)
    assert measured.sd[:2] == pytest.approx(np.sqrt(true.sd[:2] ** 2 + 0.05**2 + 0.02**2))
    assert np.isnan(true.mean[2]) and true.sd[1] > true.sd[0]
    with pytest.raises(ValueError, match="needs 2 sizes"):
        Ladder(effects[:, :1], np.full((3, 1), 0.02), np.zeros(1), np.zeros(1)).predict(1.0)


@pytest.mark.parametrize("case", [Case(rows=6, contexts=4), Case(rows=6, contexts=4, tau=2.0)], ids=str)
def test_words_are_seldom_wrong(case):
    repetitions = 60
    for word, (share, _) in case.words(repetitions).items():
        assert share <= 0.06 + 2 * standard_error(0.06, repetitions), word


def test_forecasts_hold():
    held, mixed, last, mean = LadderCase(0.03).scored(60)
    assert 0.91 < held < 0.99 and mixed < last and mixed < mean


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_words_are_seldom_wrong(case):
    repetitions = 400
    for word, (share, _) in case.words(repetitions).items():
        if case.noise != "two-state":
            assert share <= 0.06 + 2 * standard_error(0.06, repetitions), word
    if case.noise == "normal":
        assert 0.93 < case.predicted(repetitions // 4) <= 0.995


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", FINDABLE, ids=str)
def test_what_transfers_is_found(case):
    found = case.words(100)
    assert set(found) == set(WORDS) and found[FLIPS][1] < 0.05
    assert found[TRANSFERS][1] > (0.8 if case.mean >= 4 and not case.tau else 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("case", LADDERS, ids=str)
def test_all_forecasts_hold(case):
    held, *_ = case.scored(400)
    assert held > 0.93
