"""Metrics against cases computed by hand, scikit-free, and against the scorers themselves."""

import math

import numpy as np
import pytest

from ablate.tasks.example import Example
from ablate.tasks.metrics import answers, classification, generation, resampling


def examples(targets, groups=None, accepted=None):
    """Examples that differ in their targets alone."""
    return [
        Example(
            str(i), "", "", "", (target,), answers=accepted[i] if accepted else (), group=groups[i] if groups else ""
        )
        for i, target in enumerate(targets)
    ]


def test_accuracy():
    found = classification.accuracy(examples("a b a b".split()), ["a", " b ", "A", ""])
    assert found.value == 50 and found.items == [1, 1, 0, 0] and found.ids == ["0", "1", "2", "3"]
    assert found.standard_error == pytest.approx(100 * math.sqrt(1 / 3) / 2)


def test_cb_by_hand():
    """x: TP 1 FP 1 FN 1, F1 1/2; y: TP 1 FN 1, F1 2/3; z: never given nor asked, 0; an output that is none is wrong."""
    found = classification.f1_macro_and_accuracy(
        examples("x x y y".split()), ["x", "oh", "y", "x"], labels=("x", "y", "z")
    )
    f1 = 100 * (1 / 2 + 2 / 3 + 0) / 3
    assert found.metrics == {"f1_macro": pytest.approx(f1), "accuracy": 50.0}
    assert found.value == pytest.approx((f1 + 50) / 2) and found.items == [1, 0, 1, 0]


def test_multirc_by_hand():
    """Over answers TP 2, FP 1, FN 1 (an output that is no label is wrong); of the questions p and q are right."""
    targets, outputs = "True False True True False".split(), "True False True ? True".split()
    found = classification.f1_and_exact_match_of_questions(examples(targets, groups="ppqrr"), outputs)
    assert found.metrics["f1a"] == pytest.approx(100 * 4 / 6)
    assert found.metrics["exact_match"] == pytest.approx(100 * 2 / 3)
    assert list(found.ids) == ["p", "q", "r"] and found.items == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "normal"),
    [("The Cat, sat!", "cat sat"), ("A  an\tthe", ""), ("it's", "its"), ("Theatre", "theatre"), ("  1,000 ", "1000")],
)
def test_normalisation_of_squad(text, normal):
    assert answers.normalised(text) == normal


def test_exact_match_with_any_answer():
    asked = examples("ab", accepted=[("Padme Amidala", "Padme"), ("The Bahamian dollar",)])
    found = answers.exact_match(asked, ["padme", "Bahamian dollar."])
    assert found.value == 100 and answers.exact_match(asked, ["Padme B.", "dollar"]).value == 0


def test_record_by_hand():
    """F1 of "New York City" against "New York": P 2/3, R 1, F1 4/5; the best answer counts."""
    asked = examples("ab", accepted=[("New York", "Boston"), ("Ann",)])
    found = answers.f1_and_exact_match(asked, ["the New York City", "Ann"])
    assert found.metrics == {"f1": pytest.approx(90), "exact_match": 50.0} and found.value == pytest.approx(70)


@pytest.mark.parametrize(
    ("output", "referent", "same"),
    [
        ("the fuzzy bunny", "Bunny", True), ("Bob", "Bob's hat", False), ("Tom", "Jim", False), ("", "Jim", False),
        ("his dog", "the dog", True), ("the", "the dog", False), ("big dog", "dog small", False),
    ],
)  # fmt: skip
def test_referents(output, referent, same):
    assert answers.names_referent(output, referent) is same


def test_wsc():
    asked = examples(["Tom", "Tom", "Tom"], accepted=[("True",), ("False",), ("False",)])
    assert answers.referents(asked, ["tom", "jim", ""]).items == [1, 1, 0]


def test_rouge_is_that_of_its_package():
    from rouge_score import rouge_scorer

    summaries, outputs = (
        ["The cats sat on mats. They slept.", "No one came."],
        ["A cat sat on the mat.", "No one comes."],
    )
    found = generation.rouge(examples(summaries), outputs)
    scorer = rouge_scorer.RougeScorer(["rouge2", "rougeLsum"], use_stemmer=True)
    expected = [scorer.score(one, other) for one, other in zip(summaries, outputs, strict=True)]
    assert found.value == pytest.approx(100 * np.mean([score["rouge2"].fmeasure for score in expected]))
    assert found.items[1] == pytest.approx(0.5) and "rouge-score 0.1" in found.scorer
    lines = scorer.score("The cats sat on mats.\nThey slept.", outputs[0])["rougeLsum"].fmeasure
    assert found.metrics["rougeLsum"] == pytest.approx(50 * (lines + expected[1]["rougeLsum"].fmeasure))


def test_bleu_is_that_of_its_package():
    import sacrebleu

    references, outputs = (
        ["das ist ein kleiner Test heute", "ja das ist gut so"],
        ["das ist ein Test heute", "ja das ist gut so"],
    )
    found = generation.bleu(examples(references), outputs)
    assert found.value == pytest.approx(sacrebleu.corpus_bleu(outputs, [references]).score)
    assert (
        "tok:13a" in found.scorer and f"version:{sacrebleu.__version__}" in found.scorer and "bs:" not in found.scorer
    )
    assert found.items[1] == pytest.approx(1) and found.standard_error > 0


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    import importlib

    from ablate.errors import UserError

    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError()))
    with pytest.raises(UserError, match=r"sacrebleu is not installed; pip install 'ablate\[downstream\]'"):
        generation.bleu(examples(["a"]), ["a"])


def test_the_bootstrap_of_a_mean_is_its_standard_error():
    items = np.random.default_rng(0).random(400)
    sums = np.column_stack([items, np.ones(400)])
    found = resampling.of_function(sums, lambda s: s[:, 0] / s[:, 1])
    assert found == pytest.approx(resampling.of_mean(items), rel=0.1)
    assert resampling.of_function(sums, lambda s: s[:, 0] / s[:, 1]) == found
    assert resampling.of_mean([1.0]) is None and resampling.of_function(sums[:1], lambda s: s[:, 0]) is None
