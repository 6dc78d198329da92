"""Which differences are set beside published ones where a row of ours has another control than the baseline."""

from dataclasses import replace

import numpy as np
import pytest

from ablate.report.analysis.agreement import agreements, contradictions, without_lacking, without_section
from ablate.report.analysis.contrasts import compared_as, control_there, published_differences
from ablate.report.analysis.reference import load
from ablate.report.analysis.verdicts import Verdicts
from ablate.statistics.comparison import Comparison
from tests.report.synthetic import verdicts

TABLE = load("narang2021")
LABELS = ("GeLU", "Swish", "ELU", "GLU", "GeGLU", "SeLU", "SwiGLU", "Sigmoid")


def published(label, control=TABLE.baseline):
    return TABLE.rows[label]["final_loss"] - TABLE.rows[control]["final_loss"]


def judged(*rows):
    base = verdicts({}).baseline
    return Verdicts(base, [replace(row, control=row.control or base.label) for row in rows], 0.01, 0.0)


def row(label, section="activation", control="", own=0.0, differs=False, delta=None):
    """A row with the published difference to the baseline, and with `own` to its control."""
    to_baseline = Comparison(seeds=3, delta=published(label) if delta is None else delta, error=0.01, own_error=0.007)
    to_baseline = replace(to_baseline, differs=differs)
    found = replace(to_baseline, delta=own) if control else to_baseline
    (plain,) = verdicts({label: 0.0}).rows
    comparisons = {"comparison": found, "early_comparison": found}
    comparisons |= {"to_baseline": to_baseline, "early_to_baseline": to_baseline}
    return replace(plain, section=section, control=control or plain.control, **comparisons)


def test_a_control_that_the_table_has_is_the_control_on_both_sides():
    swiglu = row("SwiGLU", control="Swish", own=-0.5)
    found = judged(*(row(label) for label in LABELS[:6]), swiglu)
    assert control_there(found, TABLE, swiglu) == "Swish"
    assert compared_as(found, TABLE, swiglu, "final_loss").delta == -0.5
    (there,) = published_differences(found, TABLE, [(swiglu, "SwiGLU")], "final_loss")
    assert there == pytest.approx(published("SwiGLU", "Swish"))
    assert without_lacking(found, TABLE) == ([], [])


def test_where_the_table_lacks_the_control_both_are_to_the_baseline():
    """And the figure without such rows is given, too."""
    rezero = row("Rezero", "normalization", control="Adam", own=-0.5)
    found = judged(*(row(label) for label in LABELS), rezero)
    assert control_there(found, TABLE, rezero) is None
    assert compared_as(found, TABLE, rezero, "final_loss").delta == pytest.approx(published("Rezero"))
    (there,) = published_differences(found, TABLE, [(rezero, "Rezero")], "final_loss")
    assert there == pytest.approx(published("Rezero"))
    assert agreements(found, TABLE)[0].spearman == pytest.approx(1)
    lacking, rest = without_lacking(found, TABLE)
    assert lacking == ["Adam"] and "Rezero" not in rest[0].labels and len(rest[0].labels) == len(LABELS)


def test_a_row_that_disagrees_through_its_control_says_so():
    sigmoid = row("Sigmoid", control="Adam", differs=True, delta=-0.2)
    found = judged(*(row(label) for label in LABELS[:7]), sigmoid)
    assert {(one.label, one.lacks) for one in contradictions(found, TABLE)} == {("Sigmoid", "Adam")}


def test_the_section_that_the_agreement_rests_on_is_left_out():
    """Activations come in the published order; the other rows in the reverse one."""
    others = ("Rezero", "Fixup", "Rezero + LayerNorm", "Rezero + RMS Norm", "RMS Norm", "Universal Transformer")
    found = judged(
        *(row(label) for label in LABELS), *(row(label, "others", delta=-published(label) / 10) for label in others)
    )
    section, rest = without_section(found, TABLE)
    assert section == "activation" and sorted(rest.labels) == sorted(others)
    assert rest.spearman < agreements(found, TABLE)[0].spearman


def test_no_section_is_named_where_the_agreement_rests_on_none():
    assert without_section(judged(*(row(label) for label in LABELS)), TABLE) is None
    assert np.isfinite(agreements(judged(*(row(label) for label in LABELS)), TABLE)[0].spearman)
