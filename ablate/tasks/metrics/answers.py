"""Short answers in free text: exact match and F1 of words after SQuAD's normalisation, and the referents of WSC.

Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250); Raffel et al. 2020 use the same for closed-book questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ablate.tasks.example import Example, Judged
from ablate.tasks.metrics import resampling

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
DETERMINERS = frozenset(
    "a an few her his each every many much my our some that the their these this those which whose your".split()
)


def normalised(text: str) -> str:
    """SQuAD's normalisation: lower case, without punctuation and articles, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def is_exact(output: str, answers: Sequence[str]) -> bool:
    """Whether an output equals one of the answers after normalisation."""
    return normalised(output) in map(normalised, answers)


def f1_of_words(output: str, answer: str) -> float:
    """2 P R / (P + R) over the normalised words that both have, counted with their number."""
    given, wanted = normalised(output).split(), normalised(answer).split()
    common = (Counter(given) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(given), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def exact_match(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """The share of outputs that equal one of their answers after normalisation."""
    right = [float(is_exact(output, one.accepted)) for one, output in zip(examples, outputs, strict=True)]
    return resampling.mean_judged(examples, right, "exact_match", "exact match after SQuAD's normalisation")


def f1_and_exact_match(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """ReCoRD: the mean of F1 and exact match, each the best over the answers. An item's score is its exact match."""
    pairs = list(zip(examples, outputs, strict=True))
    exact = [float(is_exact(output, one.accepted)) for one, output in pairs]
    f1 = [max(f1_of_words(output, answer) for answer in one.accepted) for one, output in pairs]
    metrics = {"f1": 100 * float(np.mean(f1)), "exact_match": 100 * float(np.mean(exact))}
    error = resampling.of_mean([(one + other) / 2 for one, other in zip(exact, f1, strict=True)])
    return Judged(
        sum(metrics.values()) / 2,
        metrics,
        [example.id for example in examples],
        exact,
        resampling.in_per_cent(error),
        "mean of F1 and exact match after SQuAD's normalisation",
    )


def names_referent(output: str, referent: str) -> bool:
    """Whether an output means the referent: the words of one, without determiners, are all among those of the other.

    T5's rule for WSC. One of "Bob" and "Bob's hat" with an apostrophe and one without are different; an empty output
    means nothing.
    """
    given, wanted = _without_determiners(output), _without_determiners(referent)
    if not given or ("'" in given) != ("'" in wanted):
        return False
    one, other = set(given.split()), set(wanted.split())
    return one <= other or other <= one


def referents(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """WSC: the share of items at which naming the referent, the first of `targets`, agrees with the label.

    An output without a word agrees with no label.
    """
    right = [
        float(bool(_without_determiners(output)) and str(names_referent(output, one.targets[0])) == one.answers[0])
        for one, output in zip(examples, outputs, strict=True)
    ]
    scorer = "accuracy, an output that names the referent counting as True"
    return resampling.mean_judged(examples, right, "accuracy", scorer)


def _without_determiners(text: str) -> str:
    return " ".join(word for word in text.strip().lower().split() if word not in DETERMINERS)
