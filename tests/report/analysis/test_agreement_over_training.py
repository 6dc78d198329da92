"""Whether our order nears the published one: tenth by tenth of training."""

import numpy as np
import pytest

from ablate.report.analysis.agreement_over_training import OWN, agreement_over_training
from ablate.report.analysis.reference import load
from ablate.report.analysis.results import Results
from tests.report.synthetic import verdicts

BASELINE = "Vanilla Transformer"
STEPS = range(25, 1001, 25)


def results(gap, labels, seeds=(0, 1)):
    """Runs whose training loss is a falling curve, a seed's own level, and `gap(label, step)`."""

    def curve(label, seed):
        return [(step, 3 + 2 / step + seed + (0 if label == BASELINE else gap(label, step))) for step in STEPS]

    runs = [(label, seed) for label in (BASELINE, *labels) for seed in seeds]
    records = [{"row": label, "seed": seed, "status": "done"} for label, seed in runs]
    return Results({}, records, {(label, seed, "train"): curve(label, seed) for label, seed in runs})


def theirs(table, column="final_loss"):
    base = table.rows[table.baseline][column]
    return {label: row[column] - base for label, row in table.rows.items() if label != table.baseline}


def test_an_order_that_turns_half_way_is_seen_to_turn():
    table = load("narang2021")
    deltas = theirs(table)
    found = agreement_over_training(
        results(lambda label, step: deltas[label] * (-1 if step <= 500 else 1), deltas), verdicts(deltas), table
    )
    assert found.rows == 51 and found.steps == list(range(100, 1001, 100))
    assert set(found.spearman) == {"early_loss", "final_loss", OWN}
    for against in ("final_loss", OWN):
        assert found.spearman[against] == pytest.approx([-1] * 5 + [1] * 5)
    assert np.allclose(np.abs(found.spearman["early_loss"]), 0.95, atol=0.01)


def test_rows_without_curves_and_tables_of_few_rows_are_left_out():
    table = load("narang2021")
    deltas = theirs(table)
    some = dict(list(deltas.items())[:6])

    def gap(label, step):
        return deltas[label]

    known = results(gap, some)
    del known.curves[next(iter(some)), 0, "train"], known.curves[next(iter(some)), 1, "train"]
    assert agreement_over_training(known, verdicts(deltas), table).rows == 5
    assert agreement_over_training(results(gap, list(some)[:4]), verdicts(deltas), table) is None
    assert agreement_over_training(results(gap, some, seeds=()), verdicts(deltas), table) is None
