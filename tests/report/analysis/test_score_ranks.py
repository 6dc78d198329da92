"""Rank correlation of loss with scores, and what each score can tell."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ablate.report.analysis import reference
from ablate.report.analysis.items_jsonl import ItemValues
from ablate.report.analysis.score_power import power_of
from ablate.report.analysis.score_ranks import PAPER, differences_to_baseline, loss_and_scores
from ablate.report.analysis.score_verdicts import AT_CHANCE
from ablate.study import published as tables
from tests.report.scored import Made, usual, with_scores

TABLE = reference.load(PAPER)


def following(verdicts, name, slope, **settings):
    """A score that follows the difference of the final loss without noise."""
    effects = {row.label: slope * row.to_baseline.delta for row in verdicts.rows}
    known = tuple((label, effect) for label, effect in effects.items() if math.isfinite(effect))
    return Made(name, effects=known, noise=0.0, **settings)


def test_a_score_that_follows_the_loss_correlates_perfectly_whatever_its_direction(plain):
    made = [
        following(plain, "accuracy", -3.0),
        following(plain, "perplexity", 2.0, higher_is_better=False),
        following(plain, "opposite", 3.0),
    ]
    found = {one.score: one.ours for one in loss_and_scores(with_scores(plain, made), TABLE)}
    assert found["accuracy"].spearman == pytest.approx(1.0) and found["accuracy"].kendall == pytest.approx(1.0)
    assert found["perplexity"].spearman == pytest.approx(1.0)
    assert found["opposite"].spearman == pytest.approx(-1.0)
    compared = [row for row in plain.rows if row.verdict not in ("not comparable", "diverged")]
    assert found["accuracy"].rows == 1 + len(compared)  # the baseline is a row
    assert found["accuracy"].spearman_interval[0] > 0.9 and found["accuracy"].kendall_interval[0] > 0.9


def test_the_papers_own_correlations_are_computed_from_its_table(plain):
    with open(tables.path_of(PAPER), encoding="utf-8") as file:
        rows = [*csv.DictReader(file.read().splitlines()[1:])]
    found = {one.score: one for one in loss_and_scores(usual(plain), TABLE)}
    for column in ("superglue", "xsum_rouge2", "webq_accuracy"):
        known = [(float(row["final_loss"]), -float(row[column])) for row in rows if row["final_loss"] and row[column]]
        there = found[column].published
        assert there.rows == len(known) > 30
        assert there.spearman == pytest.approx(stats.spearmanr(*zip(*known, strict=True))[0])
        assert there.kendall == pytest.approx(stats.kendalltau(*zip(*known, strict=True))[0])
        assert there.spearman_interval[0] < there.spearman < there.spearman_interval[1]
    assert found["superglue"].ours.rows and not found["xsum_rouge2"].ours.rows
    assert [*found][-1] in TABLE.scores and next(iter(found)) == "superglue"  # ours come first


def test_rows_that_cannot_be_compared_or_learned_nothing_are_in_no_correlation(plain):
    scored = usual(plain)
    known = differences_to_baseline(scored, scored.scores.tables["superglue"])
    assert known["Vanilla Transformer"] == 0.0 and "SwiGLU" in known
    assert not {"Larger vocabulary", "No norm, deep"} & {*known}
    one = with_scores(replace(plain, rows=plain.rows[:1]), [Made("superglue")])
    assert math.isnan(loss_and_scores(one, TABLE)[0].ours.spearman)


def test_a_difference_is_over_the_seeds_that_a_row_shares_with_the_baseline(plain):
    scored = usual(plain)
    table = scored.scores.tables["superglue"]
    values = {**table.values, "SwiGLU": np.array([60.0, 61.0, np.nan, np.nan, np.nan])}
    values[plain.baseline.label] = np.array([50.0, 55.0, 1.0, 1.0, 1.0])
    assert differences_to_baseline(scored, replace(table, values=values))["SwiGLU"] == pytest.approx(8.0)
    values[plain.baseline.label] = np.full(5, np.nan)
    assert differences_to_baseline(scored, replace(table, values=values)) == {}


def test_what_a_score_can_tell(plain):
    scored = usual(plain)
    found = power_of(scored, scored.scores.tables["superglue"])
    assert found.signal.rows == len(differences_to_baseline(scored, scored.scores.tables["superglue"]))
    assert found.signal.seed_noise == pytest.approx(0.5, rel=0.3) and found.signal.spread > 1
    assert found.signal.item_noise == pytest.approx(0.3 / 2**0.5)
    assert found.detectable == pytest.approx(2.0) and not found.is_constant
    table = scored.scores.tables["superglue_copa"]
    chance = sum(one.verdict == AT_CHANCE for one in scored.scores.tables["superglue_multirc"].verdicts.values())
    assert power_of(scored, scored.scores.tables["superglue_multirc"]).at_chance == chance > 0
    assert power_of(scored, table).compared == 16  # of all rows with a difference
    assert math.isnan(power_of(scored, scored.scores.tables["wikitext"]).signal.item_noise)


def test_a_constant_answer_is_seen(plain):
    scored = usual(plain)
    found = power_of(scored, scored.scores.tables["superglue_boolq"])
    assert found.is_constant and found.alike == found.runs and found.common == 50.5
    assert found.signal.spread == 0.0 == found.signal.ratio
    table = scored.scores.tables["superglue"]
    nothing = replace(table, values={label: values * np.nan for label, values in table.values.items()}, verdicts={})
    empty = power_of(scored, nothing)
    assert (empty.runs, empty.is_constant, empty.compared) == (0, False, 0) and math.isnan(empty.detectable)


def test_runs_are_alike_by_their_items_where_these_are_known(plain):
    scored = with_scores(plain, [Made("boolq", constant=True, base=50.0), Made("piqa")])
    runs = [(row.label, seed) for row in plain.rows[:3] for seed in range(3)]

    def answers(change):
        return {(*run, "boolq"): ItemValues.of({0: 100.0, 1: change(number)}) for number, run in enumerate(runs)}

    table = scored.scores.tables["boolq"]
    same = power_of(scored, table, answers(lambda number: 0.0))
    assert same.is_constant and (same.alike, same.runs, same.common) == (9, 9, 50.0)
    assert not power_of(scored, table, answers(float)).is_constant  # though the scores are the same
    most = power_of(scored, table, answers(lambda number: float(number if number > 4 else 0)))
    assert most.is_constant and most.alike == 5
    assert not power_of(scored, table, answers(lambda number: float(number if number > 3 else 0))).is_constant
    other = power_of(scored, scored.scores.tables["piqa"], answers(lambda number: 0.0))
    assert not other.is_constant and not other.by_item  # by the scores, of which a few may be the same by chance
