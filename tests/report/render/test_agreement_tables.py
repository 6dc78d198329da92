"""What a report says about a published table: what was tested, and what was not."""

from dataclasses import replace

import numpy as np
import pytest

from ablate.report.analysis.agreement import agreements
from ablate.report.analysis.agreement_over_training import AgreementOverTraining
from ablate.report.analysis.reference import load
from ablate.report.analysis.verdicts import Verdicts
from ablate.report.render.agreement_tables import AgreementTables
from ablate.statistics.comparison import Comparison
from tests.report.synthetic import verdicts

TABLE = load("narang2021")
LABELS = ("GeLU", "Swish", "ELU", "GLU", "GeGLU", "SeLU", "Fixup", "Rezero")


def published(label, column="final_loss"):
    return TABLE.rows[label][column] - TABLE.rows[TABLE.baseline][column]


def tables(rows, over_training=None):
    """The tables of a sweep with these rows."""
    judged = Verdicts(verdicts({}).baseline, rows, 0.01, 0.0)
    return AgreementTables(judged, TABLE, agreements(judged, TABLE), over_training)


def row(label, delta=None, seeds=3, differs=False, **changes):
    """A row with this difference (the published one where none is given), tested from 3 seeds on."""
    delta = published(label) if delta is None else delta
    tested = {"error": 0.01, "own_error": 0.007, "p": 0.001 if differs else 0.5} if seeds > 2 else {}
    found = Comparison(seeds=seeds, delta=delta, differs=differs, **tested)
    return replace(verdicts({label: delta}).rows[0], **of_row(found), **changes)


def of_row(found):
    names = ("comparison", "early_comparison", "to_baseline", "early_to_baseline")
    return dict.fromkeys(names, found)


def said(found, heading):
    """The sentence that begins with this heading."""
    (sentence,) = (sentence for sentence in found.reading if sentence.startswith(f"**{heading}"))
    return sentence


def test_no_row_is_called_uncontradicted_that_was_not_tested():
    found = tables([row(label, seeds=1) for label in LABELS])
    assert said(found, "Rows:") == "**Rows:** none has been tested yet; a test needs 3 seeds shared with the baseline."


def test_tested_rows_alone_are_counted():
    found = tables([row(label, seeds=3 if label == "ELU" else 1) for label in LABELS])
    assert "none of 1 tested row differs significantly" in said(found, "Rows:")


def test_rows_that_disagree_within_the_published_noise_are_counted_apart():
    """Swish is 0.009 worse there in the final loss, within two standard deviations of runs; ELU 0.094."""
    inside = tables(
        [row(label, -0.05 if label == "Swish" else None, differs=label in ("Swish", "ELU")) for label in LABELS]
    )
    sentence = said(inside, "Rows:")
    assert (
        "of 8 tested rows, 2 differ significantly from the baseline here in the final loss and 2 in the early loss"
        in sentence
    )
    assert (
        "none of them differs in the opposite direction in the published table by more than two standard deviations"
        in sentence
    )
    assert sentence.endswith("(by less: 2).")
    beyond = tables(
        [row(label, -0.05 if label == "ELU" else None, differs=label in ("GeGLU", "ELU")) for label in LABELS]
    )
    assert not any(sentence.startswith("**Rows:**") for sentence in beyond.reading)
    sentence = said(beyond, "Rows that disagree:")
    assert "ELU (final loss −0.05" in sentence and "+0.094 published" in sentence and "by less" not in sentence
    (line,) = (line for line in beyond.rows if line[0].startswith("ELU"))
    assert line[0] == "ELU ✗"


def test_a_row_that_diverges_is_not_passed_over():
    rows = [row(label, verdict="diverged" if label == "GeGLU" else "no difference detected") for label in LABELS]
    rows += [row("Sigmoid", np.nan, seeds=0), row("SwiGLU", verdict="not comparable")]
    found = tables(rows)
    sentence = said(found, "Left out of the comparison:")
    assert "GeGLU, which diverged here (ranked as the worst, Spearman of final losses would be " in sentence
    assert "SwiGLU, which cannot be compared" in sentence and "1 row without a run to compare" in sentence
    assert found.figures[0][1] == "7" and not any(line[0] in ("GeGLU", "SwiGLU", "Sigmoid") for line in found.rows)
    assert not any(said.startswith("**Left out") for said in tables([row(label) for label in LABELS]).reading)


def test_both_studies_are_summed_up_over_the_same_rows():
    """Of ELU, GLU and the like, and not of all 51 of the paper."""
    found = tables([row(label) for label in LABELS] + [row("Sigmoid", np.nan, seeds=0)])
    shown = {line[0]: line[1:] for line in found.findings}
    better = sum(published(label) < 0 for label in LABELS)
    assert shown["Rows that beat the baseline: final loss"] == [f"{better} of 8", f"{better} of 8"]


def test_a_handful_of_rows_gets_no_figures_and_the_reason():
    found = tables([row(label) for label in LABELS[:3]] + [row("Sigmoid", np.nan, seeds=0)])
    assert found.few == "3 rows can be compared with it; a correlation needs at least 5"


@pytest.mark.parametrize(
    "sign, words", [(1, "seed noise can explain a value like this"), (-1, "so something else separates the two")]
)
def test_an_order_is_held_against_the_noise_of_both_studies(sign, words):
    found = tables([row(label, sign * published(label)) for label in LABELS])
    sentence = next(sentence for sentence in found.reading if sentence.startswith("**Order:** final loss against"))
    assert words in sentence and "seed noise of both studies" in sentence


def test_agreement_over_training_begins_with_the_first_tenth():
    """An order that is near at first and then falls away is not to look as if it had settled."""
    steps, falling = list(range(100, 1001, 100)), [0.8, 0.79, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4]
    found = tables([row(label) for label in LABELS], AgreementOverTraining(8, steps, {"final_loss": falling}))
    sentence = said(found, "Over training:")
    assert "end at steps 100 · 400 · 700 · 1,000" in sentence
    assert "0.80 · 0.50 · 0.50 · 0.40 with the published final loss" in sentence
    assert "levelled off or falls" in sentence
