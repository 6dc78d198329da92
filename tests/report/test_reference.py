"""Published tables: what is in them, how rows are joined, and what agreement means."""

import numpy as np
import pytest
from scipy import stats

from ablate.errors import UserError
from ablate.report import reference
from ablate.report.reference import agreements, join, load
from ablate.report.statistics import Comparison
from ablate.report.verdicts import Row, Verdicts


def verdicts(deltas, errors=0.01, baseline="Vanilla Transformer"):
    """Rows with given differences, final and early."""

    def row(label, delta, error):
        comparison = Comparison(seeds=3, delta=delta, error=error, degrees=9.0)
        nothing = np.full(3, np.nan)
        return Row(
            *(
                label,
                "rows",
                (),
                3,
                3,
                0,
                0,
                0,
                np.nan,
                nothing,
                nothing,
                {"total": 1.0, "active": 1.0},
                1.0,
                1.0,
                1.0,
                1.0,
                True,
            ),
            *(1.0, 1.0, {}, {}, {}),
            comparison=comparison,
            early_comparison=comparison,
            verdict="no difference detected",
        )

    return Verdicts(
        row(baseline, np.nan, np.nan), [row(label, delta, errors) for label, delta in deltas.items()], 0.01, 0.0
    )


@pytest.mark.parametrize(
    "name, rows, baseline, final",
    [
        ("narang2021", 52, "Vanilla Transformer", 1.838),
        ("narang2021_learned_positions", 55, "Vanilla Transformer", 1.865),
        ("shazeer2020", 8, "ReLU", 1.677),
    ],
)
def test_the_tables_are_whole(name, rows, baseline, final):
    table = load(name)
    assert len(table.rows) == rows and table.baseline == baseline
    assert table.rows[baseline]["final_loss"] == final
    for numbers in table.rows.values():
        assert np.isfinite([numbers["early_loss"], numbers["early_loss_std"], numbers["final_loss"]]).all()


def test_the_papers_own_correlations_come_out():
    """Narang et al. 2021 give Spearman's 0.87 between final loss and SuperGLUE."""
    rows = load("narang2021").rows.values()

    def column(name):
        return [row[name] for row in rows]

    for name, told in (("superglue", 0.87), ("xsum_rouge2", 0.82), ("webq_accuracy", 0.73), ("wmt_ende_bleu", 0.78)):
        assert -stats.spearmanr(column("final_loss"), column(name))[0] == pytest.approx(told, abs=0.006)
    better = sum(row["final_loss"] < 1.838 for row in rows)
    assert better == 15


def test_labels_meet_whatever_their_case_and_spaces():
    table = load("narang2021")
    assert table.find("RMSNorm") == "RMS Norm"
    assert table.find("GELU") == "GeLU"
    assert table.find("Bilinear") == "LiGLU"
    assert table.find("Vanilla Transformer") == table.find("baseline") == "Vanilla Transformer"
    assert table.find("RoPE") is None
    assert table.unconfirmed["Dynamic convolution"] == ("superglue",)
    labels = [
        label for label, _ in [(row.label, here) for row, here in join(verdicts({"Swi-GLU": 0, "RoPE": 0}), table)]
    ]
    assert labels == ["Swi-GLU"]


def test_an_unknown_table_is_named_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'narang2021'"):
        load("narang2022")


def test_a_copy_of_the_table_agrees_with_it():
    table = load("narang2021")
    base = table.rows[table.baseline]
    ours = {
        label: 0.5 * (row["final_loss"] - base["final_loss"])
        for label, row in table.rows.items()
        if label != table.baseline
    }
    final, early = agreements(verdicts(ours, errors=1e-6), table)
    assert final.spearman == pytest.approx(1) and final.kendall == pytest.approx(1)
    assert final.equal_signs == final.signs == 50  # GeLU has no sign: its loss is the baseline's
    assert final.scale == pytest.approx(0.5, rel=1e-3)
    assert final.ceiling["spearman"][0] == pytest.approx(1, abs=1e-3)
    assert early.spearman == pytest.approx(0.95, abs=0.01)
    low, high = early.spearman_interval
    assert 0.85 < low < early.spearman < high < 1


def test_noise_sets_a_ceiling():
    table = load("shazeer2020")
    base = table.rows["ReLU"]["final_loss"]
    ours = {label: row["final_loss"] - base for label, row in table.rows.items() if label != "ReLU"}
    quiet, loud = (agreements(verdicts(ours, errors, "ReLU"), table)[0].ceiling for errors in (0.001, 0.02))
    for figure in ("spearman", "kendall", "signs"):
        assert loud[figure][0] <= quiet[figure][0]
        assert loud[figure][1] <= loud[figure][0]
    assert loud["spearman"][0] < 0.8
    again = agreements(verdicts(ours, 0.02, "ReLU"), table)[0].ceiling
    assert again == loud


def test_no_correlation_over_a_handful_or_without_noise():
    table = load("narang2021")
    assert agreements(verdicts({"GeLU": 0.1, "SwiGLU": 0.2, "RoPE": 0.3}), table) == []
    unknown = agreements(
        verdicts({label: 0.01 * n for n, label in enumerate(("GeLU", "GLU", "ELU", "Swish", "SeLU"))}, np.nan), table
    )
    assert unknown[0].ceiling == {}
    same = agreements(verdicts(dict.fromkeys(("GeLU", "GLU", "ELU", "Swish", "SeLU"), 0.1)), table)
    assert np.isnan(same[0].spearman)


def test_names():
    assert reference.names() == ["narang2021", "narang2021_learned_positions", "shazeer2020"]
