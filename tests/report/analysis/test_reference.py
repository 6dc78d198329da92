"""Published tables: what is in them, how rows are joined, and what agreement means."""

from dataclasses import replace

import numpy as np
import pytest

from ablate.errors import UserError
from ablate.report.analysis.agreement import (
    agreements,
    by_section,
    contradictions,
    join,
    left_out,
    of_speed,
    with_diverged_last,
)
from ablate.report.analysis.reference import findings, load
from ablate.report.analysis.verdicts import Verdicts
from ablate.run.record import Timing
from ablate.statistics.ceiling import ceiling
from ablate.statistics.comparison import Comparison
from ablate.statistics.ranks import rank_correlations
from ablate.statistics.speed_ratio import FEWEST_ROUNDS
from ablate.study import published
from tests.report.synthetic import verdicts


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


@pytest.mark.parametrize(
    "name, better, correlations",
    [
        (
            "narang2021",
            {
                "early_loss": 12,
                "final_loss": 15,
                "superglue": 28,
                "xsum_rouge2": 8,
                "webq_accuracy": 27,
                "wmt_ende_bleu": 20,
            },
            {"early_loss": 0.95, "superglue": 0.87, "xsum_rouge2": 0.82, "webq_accuracy": 0.73, "wmt_ende_bleu": 0.78},
        ),
        (
            "narang2021_learned_positions",
            {"early_loss": 22, "final_loss": 18, "superglue": 20, "xsum_rouge2": 17, "webq_accuracy": 7},
            {},
        ),
    ],
)
def test_what_the_paper_found_comes_out(name, better, correlations):
    """Narang et al. 2021 give 0.87 for SuperGLUE; the other figures follow from their table."""
    table = load(name)
    found = findings(table.rows, table.baseline, table.scores)
    assert {column: count for column, (count, _) in found.better.items()} == better
    assert {rows for _, rows in found.better.values()} == {len(table.rows) - 1}
    for column, figure in correlations.items():
        assert found.correlations[column] == pytest.approx(figure, abs=0.006), column


def test_a_study_without_scores_has_findings_too():
    table = load("shazeer2020")
    assert table.title == "Shazeer 2020, Table 1" and table.scores == ()
    found = findings(table.rows, table.baseline, ())
    assert found.better == {"early_loss": (7, 7), "final_loss": (5, 7)} and list(found.correlations) == ["early_loss"]


def test_the_direction_of_a_score_may_be_given():
    losses = {"base": (3.0, 3.0), "a": (2.9, 2.9), "b": (2.8, 2.8), "c": (3.1, 3.1), "d": (3.2, 3.2)}
    rows = {row: {"early_loss": e, "final_loss": f, "error": f, "hits": -f} for row, (e, f) in losses.items()}
    found = findings(rows, "base", ("error", "hits"), lower=("early_loss", "final_loss", "error"))
    assert found.better["error"] == found.better["hits"] == (2, 4)
    assert found.correlations["error"] == found.correlations["hits"] == pytest.approx(1)


def test_sections_are_compared_by_themselves():
    table = load("narang2021")
    base = table.rows[table.baseline]["final_loss"]
    names = ["GeLU", "Swish", "ELU", "GLU", "GeGLU", "SeLU"]
    rows = verdicts({name: table.rows[name]["final_loss"] - base for name in names}).rows
    rows = [replace(row, section="activation") for row in rows]
    fixup = replace(verdicts({"Fixup": -0.1}).rows[0], section="normalization")
    activation, normalization = by_section(Verdicts(verdicts({}).baseline, [*rows, fixup], 0.01, 0.0), table)
    assert (activation.section, activation.spearman) == ("activation", pytest.approx(1))
    assert (activation.equal_signs, activation.signs) == (5, 5) and "spearman" in activation.ceiling
    assert np.isnan(normalization.spearman) and (normalization.equal_signs, normalization.signs) == (0, 1)
    assert normalization.ceiling == {}


def test_only_what_differs_beyond_noise_contradicts():
    table = load("narang2021")
    differing = {"SwiGLU": 0.05, "ELU": 0.05, "GeLU": 0.05, "Transparent attention": 0.05, "Swish": -0.05}
    judged = verdicts(differing | {"GLU": 0.05})
    rows = [
        replace(
            row,
            **{
                name: replace(getattr(row, name), differs=row.label in differing)
                for name in ("comparison", "early_comparison")
            },
        )
        for row in judged.rows
    ]
    found = contradictions(Verdicts(judged.baseline, rows, 0.01, 0.0), table)
    # GeLU's published losses are the baseline's within their noise, as is transparent attention's early one; Swish's
    # final loss, of one run, differs by less than two of the early ones' deviations
    certain = [one for one in found if one.is_certain]
    assert [(one.label, one.column) for one in certain] == [("SwiGLU", "final_loss"), ("SwiGLU", "early_loss")]
    assert [(one.label, one.column) for one in found if not one.is_certain] == [
        ("GeLU", "early_loss"),
        ("Transparent attention", "early_loss"),
        ("Swish", "final_loss"),
        ("Swish", "early_loss"),
    ]
    assert (found[0].ours, found[0].theirs) == (0.05, pytest.approx(1.789 - 1.838))


def test_speeds_are_compared_relative_to_each_ones_baseline():
    table = load("narang2021")
    speeds = {
        name: table.rows[name]["steps_per_second"] for name in ("GeLU", "ELU", "GLU", "Fixup", "Untied embeddings")
    }
    judged = verdicts(dict.fromkeys(speeds, 0.0))

    def timed(row, speed):
        return replace(row, speed=1.0, timing=Timing(began="now", rounds=(speed,) * FEWEST_ROUNDS))

    rows = [timed(row, 4 * speeds[row.label]) for row in judged.rows]
    found = of_speed(Verdicts(timed(judged.baseline, 14.0), rows, 0.01, 0.0), table)
    np.testing.assert_allclose(found.ours, found.theirs)
    assert found.spearman == pytest.approx(1) and found.ceiling == {}
    untimed = [replace(row, timing=None, speed=4 * speeds[row.label]) for row in judged.rows]
    assert of_speed(Verdicts(replace(judged.baseline, speed=14.0), untimed, 0.01, 0.0), table) is None


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


GOOD = "# A paper\nrow,section,early_loss,final_loss\nPlain,baseline,2.5,2.0\nOdd,norm,,2.1\n"


def test_a_table_needs_four_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    (tmp_path / "mine.csv").write_text(GOOD)
    table = load("mine")
    assert (table.title, table.baseline, table.scores, table.find("odd")) == ("A paper", "Plain", (), "Odd")
    assert table.rows["Odd"]["final_loss"] == 2.1 and np.isnan(table.rows["Odd"]["early_loss"])


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("# A paper", "A paper", "line 1: must be the table's title"),
        ("early_loss,final_loss", "early_loss,last_loss", "line 2: missing final_loss"),
        ("row,", "name,", "line 2: missing row"),
        ("baseline", "norm", "no row has the section 'baseline'"),
        ("2.1", "n/a", "line 4: final_loss is 'n/a'; it must be a number or empty"),
        ("Odd,norm,,2.1", "Odd,norm,2.1", "line 4: the number of cells differs"),
        ("Odd,norm,,2.1", "Odd,norm,,2.1,7", "line 4: the number of cells differs"),
    ],
)
def test_a_mistake_in_a_table_is_reported_with_its_line(tmp_path, monkeypatch, old, new, message):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    (tmp_path / "mine.csv").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        load("mine")


def test_an_unknown_table_is_named_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'narang2021'"):
        load("narang2022")


def silent(table):
    """The table as if its losses had no noise."""
    rows = {
        label: {name: value for name, value in row.items() if not name.endswith("_std")}
        for label, row in table.rows.items()
    }
    return replace(table, rows=rows)


def test_a_copy_of_the_table_agrees_with_it():
    table = load("narang2021")
    base = table.rows[table.baseline]
    ours = {
        label: 0.5 * (row["final_loss"] - base["final_loss"])
        for label, row in table.rows.items()
        if label != table.baseline
    }
    final, early, _ = agreements(verdicts(ours, errors=1e-6), table)
    assert final.spearman == pytest.approx(1) and final.kendall == pytest.approx(1)
    assert final.equal_signs == final.signs == 50  # GeLU has no sign: its loss is the baseline's
    better = sum(delta < 0 for delta in ours.values()) / 50
    assert final.by_chance == pytest.approx(50 * (better**2 + (1 - better) ** 2))
    assert final.scale == pytest.approx(0.5, rel=1e-3)
    assert 0.98 < final.ceiling["spearman"][0] < 0.995  # the published losses are not without noise
    assert agreements(verdicts(ours, errors=1e-6), silent(table))[0].ceiling["spearman"][0] == pytest.approx(
        1, abs=1e-3
    )
    assert early.spearman == pytest.approx(0.95, abs=0.01)
    low, high = early.spearman_interval
    assert 0.85 < low < early.spearman < high < 1


def test_noise_sets_a_ceiling():
    table = load("shazeer2020")
    base = table.rows["ReLU"]["final_loss"]
    ours = {label: row["final_loss"] - base for label, row in table.rows.items() if label != "ReLU"}
    found = agreements(verdicts(ours, 0.001, "ReLU"), table)[0]
    assert np.isfinite(found.spearman) and np.isnan(found.spearman_interval).all()  # seven rows allow no interval
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
    assert not findings(
        {label: table.rows[label] for label in ("GeLU", "GLU", "ELU", table.baseline)}, table.baseline, table.scores
    ).correlations
    same = agreements(verdicts(dict.fromkeys(("GeLU", "GLU", "ELU", "Swish", "SeLU"), 0.1)), table)
    assert np.isnan(same[0].spearman)


def test_names():
    assert published.names() == ["narang2021", "narang2021_learned_positions", "shazeer2020"]


def test_the_ceiling_has_the_noise_of_both_sides_and_the_ties_of_neither():
    truth = np.linspace(-0.1, 0.1, 9)
    silent, ours, theirs = np.zeros(10), np.full(10, 0.05), np.full(10, 0.05)
    perfect = ceiling(np.repeat(truth, 2), 0.5, np.zeros(19), np.zeros(19))
    assert perfect == {"spearman": (pytest.approx(1),) * 2, "kendall": (pytest.approx(1),) * 2, "signs": (16, 16)}
    one, other, both = (
        ceiling(truth, 1.0, *sides)["spearman"] for sides in ((ours, silent), (silent, theirs), (ours, theirs))
    )
    assert both[0] < min(one[0], other[0]) < 1 and one == pytest.approx(other, abs=0.03)
    assert ceiling(truth, 0.1, ours, silent)["spearman"][0] < one[0]  # smaller differences, the same noise
    common = ceiling(truth, 1.0, np.r_[0.05, np.zeros(9)], silent)  # the baseline's own noise moves all rows alike
    assert common["spearman"] == (pytest.approx(1),) * 2 and common["signs"][1] < 8


def test_a_true_agreement_falls_below_the_ceiling_in_one_table_of_twenty():
    """Both studies measure the same truth, theirs with the noise that their table gives."""
    truth, noise = np.linspace(-0.05, 0.05, 11), np.random.default_rng(5)
    below = 0
    for _ in range(200):
        here, there = (truth + noise.normal(0, 0.02, 11) - noise.normal(0, 0.02) for _ in range(2))
        found = rank_correlations(here, there)[0]
        below += found < ceiling(there, 1.0, np.full(12, 0.02), np.full(12, 0.02))["spearman"][1]
    assert below <= 20


def test_a_row_of_one_seed_has_more_noise_than_one_of_three():
    table = load("narang2021")
    base = table.rows[table.baseline]["final_loss"]
    judged = verdicts(
        {label: row["final_loss"] - base for label, row in table.rows.items() if label != table.baseline}, 0.02
    )

    def with_seeds(count):
        few = {row.label for row in judged.rows[3:]}
        rows = [
            replace(row, comparison=Comparison(seeds=count, delta=row.comparison.delta)) if row.label in few else row
            for row in judged.rows
        ]
        return agreements(Verdicts(judged.baseline, rows, 0.01, 0.0), table)[0]

    one, three = with_seeds(1), with_seeds(3)
    assert one.errors[3:] == pytest.approx(0.02 * 3**0.5) and three.errors[3:] == pytest.approx(0.02)
    assert one.ceiling["spearman"][1] < three.ceiling["spearman"][1]


def test_rows_that_diverged_or_did_not_run_are_left_out_and_told():
    table = load("narang2021")
    base = table.rows[table.baseline]["final_loss"]
    judged = verdicts(
        {label: table.rows[label]["final_loss"] - base for label in ("ELU", "GLU", "GeGLU", "SeLU", "Fixup", "Swish")}
    )
    rows = [replace(row, verdict="diverged") if row.label == "GeGLU" else row for row in judged.rows]
    rows += verdicts({"LiGLU": np.nan}).rows
    mixed = Verdicts(judged.baseline, rows, 0.01, 0.0)
    assert [label for _, label in join(mixed, table)] == ["ELU", "GLU", "SeLU", "Fixup", "Swish"]
    assert [label for _, label in left_out(mixed, table)] == ["GeGLU", "LiGLU"]
    assert agreements(mixed, table)[0].spearman == pytest.approx(1)
    # the best of six published rows becomes the worst here: it moves five places, and each other one
    assert with_diverged_last(mixed, table) == pytest.approx(1 - 6 * (25 + 5) / (6 * 35))


def test_a_rows_own_noise_is_not_lent_to_the_others():
    """Of two rows that are equally far from the baseline, the noisy one alone changes its place."""
    table = load("narang2021")
    base = table.rows[table.baseline]["final_loss"]
    ours = {
        label: table.rows[label]["final_loss"] - base for label in ("GeGLU", "ELU", "SeLU", "Rezero", "Fixup", "GLU")
    }
    judged = verdicts(ours, 0.001)
    wild = [
        replace(row, comparison=replace(row.comparison, error=0.1, own_error=0.1)) if row.label == "GLU" else row
        for row in judged.rows
    ]
    calm, stirred = (
        agreements(Verdicts(judged.baseline, rows, 0.01, 0.0), silent(table))[0].ceiling["kendall"]
        for rows in (judged.rows, wild)
    )
    assert calm[1] == pytest.approx(1) and 0.2 < stirred[1] < 1  # at worst GLU's five pairs of fifteen turn
