"""Verdicts on scores: families, pairing by item, chance, what cannot be compared, and what falls back to less."""

import json

import numpy as np
import pytest

from ablate.report.analysis import score_comparability
from ablate.report.analysis.gathering import collect
from ablate.report.analysis.judge import judge
from ablate.report.analysis.score_verdicts import AT_CHANCE, PAIRED, SEEDS_ONLY, UNPAIRED
from ablate.report.analysis.verdicts import (
    ABOVE_CHANCE,
    BASELINE,
    BETTER,
    NO_VERDICT,
    NOT_COMPARABLE,
    UNDECIDED,
    WORSE,
)
from ablate.run import outcomes
from ablate.run.outcomes import Item, Outcomes
from ablate.statistics import item_noise
from ablate.statistics.comparison import ALPHA, compare
from tests.report.synthetic import identity
from tests.report.with_items import ITEMS, SEEDS, ScoredMaker

TASKS = {"boolq": 0.6, "piqa": 0.7}
EVEN = [f"plain {number}" for number in range(6)]


def study(root, **options):
    maker = ScoredMaker(root, TASKS, **options)
    for label in EVEN:
        maker.row(label, {})
    return maker


def scores(maker):
    maker.write_sweep()
    return judge(collect(maker.name, maker.runs, maker.sweeps)).scores


def change(maker, label, edit, seeds=range(SEEDS)):
    """Edit the records of a row's runs."""
    for seed in seeds:
        path = maker.evaluation(label, seed).parents[1] / "record.json"
        record = json.loads(path.read_text())
        edit(record)
        path.write_text(json.dumps(record))


def item_table(maker, label, name, seeds=range(SEEDS)):
    """(seeds, items), read from the files themselves."""
    task = name.removesuffix("_margin")
    files = (outcomes.read(maker.evaluation(label, seed) / f"{task}.jsonl") for seed in seeds)
    return np.array([[*file.values(name).values()] for file in files])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    maker = study(tmp_path_factory.mktemp("study"))
    maker.row("up", {"boolq": 0.25, "piqa": 0.25})
    maker.row("down", {"boolq": -0.25, "piqa": -0.25})
    maker.row("after up", {"boolq": 0.25, "piqa": 0.25}, against="up")
    return maker, scores(maker)


def test_averages_are_one_family_and_tasks_another(made):
    _, found = made
    assert list(found.tables) == ["zero_shot", "boolq", "boolq_margin", "piqa", "piqa_margin"]
    assert [table.metric.name for table in found.primary] == ["zero_shot"]
    assert [table.metric.name for table in found.exploratory] == ["boolq", "boolq_margin", "piqa", "piqa_margin"]
    assert found.tables["zero_shot"].alpha == ALPHA and found.tables["piqa"].alpha == ALPHA / 4


def test_verdicts_and_what_they_rest_on(made):
    maker, found = made
    table = found.tables["zero_shot"]
    assert table.verdicts[maker.baseline].verdict == BASELINE
    assert {label: table.verdicts[label].verdict for label in ("up", "down", "plain 0", "after up")} == {
        "up": BETTER, "down": WORSE, "plain 0": UNDECIDED, "after up": UNDECIDED,
    }  # fmt: skip
    up, after = table.verdicts["up"], table.verdicts["after up"]
    assert up.comparison.delta == pytest.approx(np.mean(table.values["up"] - table.values[maker.baseline]))
    assert after.control == "up" and abs(after.comparison.delta) < 8
    assert (up.comparison.low > 0) and up.comparison.seeds == SEEDS
    assert table.noise == pytest.approx(np.std(table.values[maker.baseline], ddof=1))
    assert table.chance == 50 and table.items == 2 * ITEMS and table.item_noise == PAIRED
    assert found.tables["piqa"].not_comparable == "the files are made up" and table.not_comparable == ""


def test_p_counts_all_scores_of_the_family(made):
    maker, found = made
    labels = [maker.baseline, *EVEN, "up", "down", "after up"]
    for name in ("zero_shot", "piqa"):
        table = found.tables[name]
        values = np.array([table.values[label] for label in labels])
        controls = [0] * 8 + [7]
        tables = {label: item_table(maker, label, name) for label in labels} if name == "piqa" else {}
        noises = [
            item_noise.of_values(tables[label] - tables[labels[control]])
            if tables
            else item_noise.of_average([
                item_noise.of_values(item_table(maker, label, task) - item_table(maker, labels[control], task))
                for task in TASKS
            ])
            for label, control in zip(labels[1:], controls, strict=True)
        ]  # fmt: skip
        added, alone = (np.sqrt([getattr(noise, part) for noise in noises]) for part in ("added", "alone"))
        expected = compare(values, controls, alpha=table.alpha, item_error=added, least_error=alone)
        for label, one in zip(labels[1:], expected, strict=True):
            comparison = table.verdicts[label].comparison
            assert comparison.item_error == pytest.approx(one.item_error, rel=1e-6)
            assert (comparison.low, comparison.high) == pytest.approx((one.low, one.high))
            family = 1 if name == "zero_shot" else 4
            assert comparison.p_adjusted == pytest.approx(min(1, family * one.p_adjusted))
            assert comparison.differs == (comparison.p_adjusted <= ALPHA)


def test_pairing_takes_the_items_out_that_are_hard_for_all(made, tmp_path):
    _, found = made
    unpaired = study(tmp_path)
    for path in unpaired.runs.rglob("*.jsonl"):
        path.unlink()
    table = scores(unpaired).tables["zero_shot"]
    assert table.item_noise == UNPAIRED
    verdict = table.verdicts["plain 0"]
    assert verdict.item_noise == UNPAIRED and "boolq" in verdict.item_note and "not there" in verdict.item_note
    paired = found.tables["zero_shot"].verdicts["plain 0"].comparison
    assert verdict.comparison.item_error > 1.2 * paired.item_error > 0


def test_a_difference_that_rests_on_few_items_is_none(tmp_path):
    """Seeds agree to the last item, so that seeds alone would find any difference."""
    maker = study(tmp_path)

    def same_in_all_seeds(label, right):
        for seed in range(SEEDS):
            items = tuple(Item(number, one, (), {"piqa": 100 * one}) for number, one in enumerate(right))
            outcomes.write(maker.evaluation(label, seed), Outcomes("piqa", "a key", items))

        def edit(record):
            record["downstream"]["piqa"] = record["scores"]["piqa"]["value"] = 100 * float(np.mean(right))
            record["scores"]["piqa"]["source"]["outcomes_sha256"] = outcomes.sha256(items)

        change(maker, label, edit)

    base = (np.arange(ITEMS) % 10 < 7).astype(float)
    for number, label in enumerate((maker.baseline, *EVEN)):
        right = base.copy()
        right[[number, 20 + number]] = 1.0
        right[40:50] = 1.0 if label == EVEN[5] else right[40:50]
        same_in_all_seeds(label, right.tolist())
    table = scores(maker).tables["piqa"]
    verdict = table.verdicts[EVEN[5]]
    assert verdict.verdict == UNDECIDED and verdict.comparison.error == 0
    assert verdict.comparison.item_error > abs(verdict.comparison.delta) / 3


def test_at_chance(tmp_path):
    maker = ScoredMaker(tmp_path, {"boolq": 0.56, "piqa": 0.75})
    for label in EVEN:
        maker.row(label, {})
    maker.row("off chance", {"boolq": 0.3})
    found = scores(maker)
    table = found.tables["boolq"]
    assert table.verdicts["plain 0"].verdict == AT_CHANCE and np.isfinite(table.verdicts["plain 0"].comparison.p)
    assert table.verdicts["off chance"].verdict in (BETTER, UNDECIDED)  # its control is at chance, it is not
    assert found.tables["piqa"].verdicts["plain 0"].verdict == UNDECIDED
    assert np.isnan(found.tables["piqa_margin"].chance)
    assert found.tables["piqa_margin"].verdicts["plain 0"].verdict == UNDECIDED


def test_nothing_right_at_all_is_at_chance_where_guessing_is_never_right(tmp_path):
    maker = study(tmp_path)

    def edit(record):
        record["downstream"]["lambada"] = 0.0
        record["scores"]["lambada"] = {"value": 0.0, "unit": "% right", "higher_is_better": True, "chance": 0.0}

    for label in (maker.baseline, *EVEN):
        change(maker, label, edit)
    verdicts = scores(maker).tables["lambada"].verdicts
    assert {verdicts[label].verdict for label in EVEN} == {AT_CHANCE}


def test_lower_is_better_for_a_score_that_says_so(tmp_path):
    maker = study(tmp_path)

    def edit(value):
        def edit_one(record):
            value_of_run = value + record["seed"] * 0.01 + len(record["row"]) * 1e-3
            record["downstream"]["loss_beyond"] = value_of_run
            record["scores"]["loss_beyond"] = {"value": value_of_run, "unit": "nats", "higher_is_better": False}

        return edit_one

    for label in (maker.baseline, *EVEN):
        change(maker, label, edit({"plain 0": 1.0, "plain 1": 3.0}.get(label, 2.0)))
    table = scores(maker).tables["loss_beyond"]
    assert table.is_primary and table.alpha == ALPHA / 2 and table.item_noise == SEEDS_ONLY
    assert table.verdicts["plain 0"].verdict == BETTER and table.verdicts["plain 0"].comparison.delta < 0
    assert table.verdicts["plain 1"].verdict == WORSE and table.verdicts["plain 1"].comparison.delta > 0
    assert np.isnan(table.verdicts["plain 0"].comparison.item_error)
    assert table.verdicts["plain 0"].item_note == "no standard error over items is known"


def test_rows_that_cannot_be_judged(tmp_path):
    maker = study(tmp_path)
    maker.row("two seeds", {}, seeds=2)
    maker.row("other data", {}, changes={"sha": "e" * 64})
    maker.row("above chance", {}, changes={"final": 9.0})
    maker.row("without", {})
    change(maker, "without", lambda record: record.update(scores={}, downstream={}))
    maker.row("after without", {}, against="without")
    maker.row("half of it", {})
    change(maker, "half of it", lambda record: record["downstream"].pop("piqa"), seeds=[0])
    found = scores(maker)
    verdicts = found.tables["zero_shot"].verdicts
    assert verdicts["two seeds"].verdict == NO_VERDICT and verdicts["two seeds"].why == "2 shared seeds, 3 are needed"
    assert np.isfinite(verdicts["two seeds"].comparison.delta) and np.isnan(verdicts["two seeds"].comparison.p)
    assert verdicts["other data"].verdict == NOT_COMPARABLE and verdicts["other data"].why == "different data"
    assert np.isnan(verdicts["other data"].comparison.delta)
    assert verdicts["above chance"].verdict == ABOVE_CHANCE and "uniform guess" in verdicts["above chance"].why
    assert np.isnan(verdicts["above chance"].comparison.p)
    assert verdicts["without"].verdict == NO_VERDICT and verdicts["without"].why == "no run has this score"
    assert verdicts["after without"].why == "no run of without has this score"
    assert verdicts["half of it"].verdict == UNDECIDED  # of the average
    assert found.tables["piqa"].verdicts["half of it"].why == "2 shared seeds, 3 are needed"
    assert (
        list(verdicts) == list(found.tables["zero_shot"].values)
        and np.isnan(found.tables["piqa"].values["without"]).all()
    )


def test_a_row_in_other_words_teaches_nothing_of_the_noise(tmp_path):
    maker = study(tmp_path)
    maker.add("copy", "rows", ["norm=copy"])
    for seed in range(SEEDS):
        same = identity([], seed)
        for label, overrides in ((maker.baseline, []), ("copy", ["norm=copy"])):
            maker.scored_run(label, seed, {}, overrides, identity=same)
    table = scores(maker).tables["piqa"]
    labels = [maker.baseline, *EVEN, "copy"]
    values = np.array([table.values[label] for label in labels])
    expected = compare(values, kept_out=[label == "copy" for label in labels], alpha=table.alpha)
    found = [table.verdicts[label].comparison.error for label in labels[1:]]
    assert found == pytest.approx([row.error for row in expected])


def test_a_baseline_without_the_score(tmp_path):
    maker = study(tmp_path)
    change(maker, maker.baseline, lambda record: record.update(scores={}, downstream={}))
    maker.row("after plain", {"boolq": 0.3, "piqa": 0.3}, against="plain 0")
    verdicts = scores(maker).tables["zero_shot"].verdicts
    assert verdicts["plain 1"].why == f"no run of {maker.baseline} has this score"
    assert verdicts["after plain"].verdict == BETTER and verdicts["after plain"].item_noise == PAIRED


def test_diverged_seeds_of_a_control_do_not_count(tmp_path):
    maker = study(tmp_path)
    maker.scored_run(maker.baseline, 0, {"boolq": -0.5, "piqa": -0.5}, [], final=9.0)
    table = scores(maker).tables["zero_shot"]
    assert np.isnan(table.values[maker.baseline][0]) and table.verdicts["plain 0"].comparison.seeds == SEEDS - 1


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda score: score["source"].update(part="first 50 of 200"), "different part of the split"),
        (lambda score: score["source"].update(sha256="f" * 64), "different files"),
        (lambda score: score.update(items=50), f"judged on 50 items, the other on {ITEMS} items"),
        (lambda score: score.pop("items"), f"judged on an unknown number of items, the other on {ITEMS} items"),
        (lambda score: score.update(unit="share"), "different unit"),
    ],
)
def test_scores_of_other_items_are_not_compared(tmp_path, edit, why):
    maker = study(tmp_path)
    change(maker, "plain 0", lambda record: edit(record["scores"]["piqa"]), seeds=[1])
    found = scores(maker)
    verdict = found.tables["piqa"].verdicts["plain 0"]
    assert (verdict.verdict, verdict.why) == (NOT_COMPARABLE, why)
    assert found.tables["boolq"].verdicts["plain 0"].verdict != NOT_COMPARABLE


def test_an_average_of_other_tasks_is_not_compared(tmp_path):
    maker = study(tmp_path)
    maker.easy = {**TASKS, "siqa": 0.5}
    maker.hardness = np.vstack([maker.hardness, maker.hardness[:1]])
    maker.row("three tasks", {})
    found = scores(maker)
    assert found.tables["zero_shot"].verdicts["three tasks"].why == "different tasks in the average"
    assert found.tables["siqa"].verdicts["three tasks"].why == f"no run of {maker.baseline} has this score"
    assert score_comparability.difference([]) == score_comparability.difference([({}, {"items": 3})]) == ""


def test_items_with_other_ids_are_not_paired(tmp_path):
    maker = study(tmp_path)
    maker.row("other ids", {})
    for seed in range(SEEDS):
        maker.scored_run("other ids", seed, {}, ["norm=other-ids"], ids=[f"item {number}" for number in range(ITEMS)])
    found = scores(maker)
    verdict = found.tables["piqa"].verdicts["other ids"]
    assert verdict.item_noise == UNPAIRED and np.isfinite(verdict.comparison.p)
    assert verdict.item_note == f"the items of other ids and {maker.baseline} are not the same"
    assert found.tables["piqa"].verdicts["plain 0"].item_noise == PAIRED and found.tables["piqa"].item_noise == UNPAIRED
    average = found.tables["zero_shot"].verdicts["other ids"]
    assert average.item_noise == UNPAIRED and average.item_note.startswith("of boolq, the items of other ids")


def test_a_lost_file_of_one_seed_leaves_the_pairs_of_the_others(tmp_path):
    maker = study(tmp_path)
    (maker.evaluation("plain 0", 1) / "piqa.jsonl").unlink()
    verdict = scores(maker).tables["piqa"].verdicts["plain 0"]
    assert verdict.item_noise == PAIRED and verdict.item_note == "without the items of seed 1"
    differences = item_table(maker, "plain 0", "piqa", [0, 2]) - item_table(maker, maker.baseline, "piqa", [0, 2])
    assert verdict.comparison.item_error == pytest.approx(np.sqrt(item_noise.of_values(differences).added))


def test_an_average_of_tasks_of_which_one_has_no_items(tmp_path):
    maker = study(tmp_path)
    for path in maker.runs.rglob("boolq.jsonl"):
        path.unlink()
    found = scores(maker)
    verdict = found.tables["zero_shot"].verdicts["plain 0"]
    assert verdict.item_noise == UNPAIRED and verdict.item_note.startswith("of boolq, the values of the items of")
    parts = [found.tables[task].verdicts["plain 0"].comparison.item_error for task in TASKS]
    assert verdict.comparison.item_error == pytest.approx(np.hypot(*parts) / 2)

    def forget(record):
        for name in ("boolq", "zero_shot"):
            record["scores"][name].pop("standard_error")

    for label in (maker.baseline, *EVEN):
        change(maker, label, forget)
    verdict = scores(maker).tables["zero_shot"].verdicts["plain 0"]
    assert verdict.item_noise == PAIRED and verdict.item_note.startswith("of boolq, the values of the items of")
    assert verdict.comparison.item_error == pytest.approx(parts[1] / 2)


def test_a_score_that_is_no_mean_over_items_lacks_no_file(tmp_path):
    maker = study(tmp_path)

    def edit(record):
        score = record["scores"]["piqa"]
        record["scores"]["piqa_perplexity"] = {**score, "value": 20.0 + record["seed"], "standard_error": 2.0}
        record["downstream"]["piqa_perplexity"] = 20.0 + record["seed"]

    for label in (maker.baseline, *EVEN):
        change(maker, label, edit)
    verdict = scores(maker).tables["piqa_perplexity"].verdicts["plain 0"]
    assert (verdict.item_noise, verdict.item_note) == (UNPAIRED, "")


def test_the_scores_of_an_average_have_any_names(tmp_path):
    """SuperGLUE's average is of superglue_boolq and so on."""
    maker = study(tmp_path)

    def rename(record):
        for kind in ("scores", "downstream"):
            record[kind] = {f"glue_{name}".replace("glue_zero_shot", "glue"): one for name, one in record[kind].items()}
        record["scores"]["glue"]["source"]["mean_of"] = [f"glue_{task}" for task in TASKS]

    before = scores(maker).tables["zero_shot"].verdicts["plain 0"].comparison
    for label in (maker.baseline, *EVEN):
        change(maker, label, rename)
    verdict = scores(maker).tables["glue"].verdicts["plain 0"]
    assert verdict.item_noise == UNPAIRED  # items have their values under the names of before
    assert verdict.comparison.item_error > before.item_error


@pytest.mark.parametrize(
    ("tasks", "value"),
    [(["boolq", "piqa"], 1.0), (["boolq", "gone"], None), (["zero_shot"], None), ("boolq", None), ([], 0)],
)
def test_an_average_that_is_none_has_the_error_of_its_own_record(tmp_path, tasks, value):
    maker = study(tmp_path)

    def edit(record):
        record["scores"]["zero_shot"]["source"]["mean_of"] = tasks
        record["scores"]["zero_shot"]["value"] += value or 0.0
        record["scores"]["zero_shot"]["standard_error"] = 3.0

    for label in (maker.baseline, *EVEN):
        change(maker, label, edit)
    verdict = scores(maker).tables["zero_shot"].verdicts["plain 0"]
    assert verdict.item_noise == UNPAIRED and verdict.comparison.item_error == pytest.approx(3 * np.sqrt(2), rel=1e-3)


def test_outcomes_in_the_record_itself_are_paired(tmp_path):
    maker = study(tmp_path)

    def edit(record):
        rng = np.random.default_rng([record["seed"], *map(ord, record["row"])])
        values = [float(value) for value in np.round(np.arange(20) + rng.normal(size=20), 2)]
        value = float(np.mean(values))
        record["downstream"]["own"] = value
        record["scores"]["own"] = {"value": value, "unit": "x", "higher_is_better": True, "outcomes": values}

    for label in (maker.baseline, *EVEN):
        change(maker, label, edit)
    verdict = scores(maker).tables["own"].verdicts["plain 0"]
    assert verdict.item_noise == PAIRED and 0 <= verdict.comparison.item_error < 1


def test_numbers_of_earlier_versions_are_judged_by_seeds_alone(tmp_path):
    maker = ScoredMaker(tmp_path, TASKS)
    for number in range(4):
        maker.row(f"old {number}", {})
    for label in (maker.baseline, *(f"old {number}" for number in range(4))):
        change(maker, label, lambda record: record.pop("scores"))
    table = scores(maker).tables["piqa"]
    assert table.is_primary and table.item_noise == SEEDS_ONLY and np.isnan(table.chance)
    assert np.isfinite(table.verdicts["old 1"].comparison.p)
