"""Verdicts: what each row is compared with, which rows tell of the noise, and why a row has no verdict."""

import numpy as np
import pytest

from ablate.report.analysis.gathering import collect
from ablate.report.analysis.judge import judge
from ablate.report.analysis.verdicts import BETTER, SAME, UNDECIDED, WORSE
from ablate.report.render.summary import headline
from tests.report.synthetic import Maker, identity

SEEDS = 5


class Study:
    """A made-up sweep of rows whose true differences are given, with 0.01 nats of noise."""

    def __init__(self, root, **margin):
        self.maker, self.noise = Maker(root), np.random.default_rng(5)
        self.maker.seeds = {"baseline": SEEDS, "rows": SEEDS}
        self.maker.same_within = margin.get("same_within")
        self.baseline_losses = self.row(self.maker.baseline, 0.0, [])
        for number in range(6):
            self.row(f"plain {number}", 0.0)

    def row(self, label, difference, overrides=None, losses=None, section="rows", same_as=None, **settings):
        """`same_as` are the overrides of which those of the row are another way to say."""
        overrides = [f"norm={label.replace(' ', '-')}"] if overrides is None else overrides
        if label != self.maker.baseline:
            self.maker.add(label, section, overrides, **settings)
        drawn = 5 + difference + self.maker.seed_effects[:SEEDS] + self.noise.normal(0, 0.01, SEEDS)
        for seed, loss in enumerate(drawn if losses is None else losses):
            of_run = identity(overrides if same_as is None else same_as, seed)
            self.maker.run(label, seed, overrides, final=loss, identity=of_run)
        return drawn

    def judged(self):
        self.maker.write_sweep()
        found = judge(collect(self.maker.name, self.maker.runs, self.maker.sweeps))
        return found, {row.label: row for row in found}


def difference(rows, label, control):
    return float((rows[label].final - rows[control].final).mean())


def test_one_control(tmp_path):
    """Adam is much worse than the baseline, and Rezero, which brings it, better than Adam."""
    study = Study(tmp_path)
    study.row("Adam", 0.5, counts=False)
    study.row("Rezero", 0.4, against="Adam")
    found, rows = study.judged()
    assert rows["Adam"].verdict == WORSE and rows["Rezero"].verdict == BETTER
    assert rows["Rezero"].comparison.delta == pytest.approx(difference(rows, "Rezero", "Adam"))
    assert rows["Rezero"].to_baseline.delta == pytest.approx(difference(rows, "Rezero", study.maker.baseline))
    assert rows["Rezero"].to_baseline.differs and rows["Rezero"].comparison.high < 0
    assert headline(found).startswith(
        "Of 7 changes to Vanilla Transformer (1 against Adam), 1 is better, none is worse"
    )


def test_a_control_that_counts(tmp_path):
    study = Study(tmp_path)
    study.row("Adam", 0.5)
    study.row("Rezero", 0.5, against="Adam")
    found, rows = study.judged()
    assert rows["Rezero"].verdict == UNDECIDED
    assert "1 is worse and 7 are undecided" in headline(found)


def test_two_controls(tmp_path):
    study = Study(tmp_path)
    for control, shift in (("Adam", 0.5), ("Lion", -0.3)):
        study.row(control, shift)
        study.row(f"with {control}", shift - 0.1, section=control, against=control)
        study.row(f"as {control}", shift, section=control, against=control)
    _, rows = study.judged()
    for control in ("Adam", "Lion"):
        assert rows[f"with {control}"].verdict == BETTER and rows[f"as {control}"].verdict == UNDECIDED
        assert rows[f"with {control}"].comparison.delta == pytest.approx(difference(rows, f"with {control}", control))


def test_a_chain(tmp_path):
    """Each row is one more change, compared with the row before."""
    study = Study(tmp_path)
    before = None
    for label, difference_to_baseline in (("one", -0.2), ("two", -0.2), ("three", -0.1)):
        study.row(label, difference_to_baseline, **({"against": before} if before else {}))
        before = label
    _, rows = study.judged()
    assert [rows[label].verdict for label in ("one", "two", "three")] == [BETTER, UNDECIDED, WORSE]
    assert [rows[label].control for label in ("one", "two", "three")] == [study.maker.baseline, "one", "two"]


def test_the_same_within(tmp_path):
    study = Study(tmp_path, same_within=0.06)
    study.row("worse", 0.3)
    _, rows = study.judged()
    assert rows["plain 0"].verdict == SAME and rows["plain 0"].words == "the same within 0.06"
    assert rows["worse"].verdict == WORSE


def test_a_margin_that_the_evidence_does_not_reach(tmp_path):
    _, rows = Study(tmp_path, same_within=0.001).judged()
    assert rows["plain 0"].verdict == UNDECIDED


@pytest.mark.parametrize("repeats", ["baseline", "row"])
def test_a_row_in_other_words_tells_nothing_of_the_noise(tmp_path, repeats):
    """Without the copy and with it, the intervals of the other rows are the same, up to the row more to be tested."""
    halves = []
    for number in range(2):
        study = Study(tmp_path / str(number))
        original = study.row("original", 0.0)
        if number:
            same_as = [] if repeats == "baseline" else ["norm=original"]
            losses = study.baseline_losses if repeats == "baseline" else original
            study.row("copy", 0.0, ["norm='original'"], losses, same_as=same_as)
        found, rows = study.judged()
        halves.append(rows["plain 0"].comparison.high - rows["plain 0"].comparison.low)
    assert rows["copy"].copy_of == (study.maker.baseline if repeats == "baseline" else "original")
    assert not rows["original"].copy_of and not rows["copy"].is_change and "Of 7 changes" in headline(found)
    assert halves[0] <= halves[1] < 1.1 * halves[0]


def test_a_row_with_initial_values_of_its_own_is_no_copy(tmp_path):
    study = Study(tmp_path)
    study.row("A/A", 0.0, ["seed.init=${plus:1000,seed.base}"])
    _, rows = study.judged()
    assert not rows["A/A"].copy_of and rows["A/A"].only_seeds


def test_a_control_that_ended_above_chance_is_the_reason(tmp_path):
    study = Study(tmp_path)
    study.row("slow", 0.0, losses=[8.0, 8.1, 8.2, 5.0, 5.0])
    study.row("follower", 0.0, against="slow")
    _, rows = study.judged()
    assert rows["slow"].verdict == "above chance" and rows["slow"].why.endswith("7.62, still falling")
    assert rows["follower"].verdict == "no verdict"
    assert rows["follower"].why == (
        "2 shared seeds, 3 are needed; "
        "of slow, 3 of 5 seeds ended above the loss of a uniform guess, 7.62, still falling"
    )


def test_a_loss_that_rose_above_chance_has_diverged(tmp_path):
    study = Study(tmp_path)
    study.row("risen", 0.0)
    study.maker.run("risen", 0, ["norm=risen"], final=8.0, early=6.0)
    _, rows = study.judged()
    assert (rows["risen"].verdict, rows["risen"].why) == (
        "diverged",
        "1 of 5 seeds ended above the loss of a uniform guess, 7.62, and no lower than before",
    )


def test_one_diverged_seed_of_a_control_costs_that_seed(tmp_path):
    study = Study(tmp_path)
    study.row("Adam", 0.5)
    study.maker.run("Adam", 0, ["norm=Adam"], status="diverged", reason="the loss is nan at step 3")
    study.row("Rezero", 0.3, against="Adam")
    _, rows = study.judged()
    assert rows["Adam"].verdict == "diverged" and rows["Rezero"].verdict == BETTER
    assert rows["Rezero"].comparison.seeds == SEEDS - 1


def test_rows_on_other_data_can_have_a_control_of_their_own(tmp_path):
    study = Study(tmp_path)
    for label, loss, settings in (("other text", 4.0, {}), ("and a change", 3.8, {"against": "other text"})):
        study.row(label, 0.0, ["data=c4", f"norm={label[0]}"], losses=[], **settings)
        for seed in range(SEEDS):
            loss_of_seed = loss + study.maker.seed_effects[seed] + study.noise.normal(0, 0.01)
            study.maker.run(label, seed, ["data=c4", f"norm={label[0]}"], final=loss_of_seed, sha="e" * 64)
    _, rows = study.judged()
    assert rows["other text"].verdict == "not comparable"
    assert rows["and a change"].verdict == BETTER and rows["and a change"].to_baseline.seeds == 0
