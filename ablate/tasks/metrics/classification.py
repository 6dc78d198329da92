"""Answers out of a set of labels: accuracy, CB's macro F1, MultiRC's F1a and exact match.

An output that is no label is wrong whatever the answer was, as in T5's own evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ablate.tasks.example import Example, Judged
from ablate.tasks.metrics import resampling


def cleaned(output: str) -> str:
    """What is compared of an output: without spaces at its ends."""
    return output.strip()


def accuracy(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """The share of outputs that are one of the accepted answers, to the letter."""
    right = [float(cleaned(output) in example.accepted) for example, output in zip(examples, outputs, strict=True)]
    return resampling.mean_judged(examples, right, "accuracy", "accuracy")


def f1_macro_and_accuracy(examples: Sequence[Example], outputs: Sequence[str], *, labels: Sequence[str]) -> Judged:
    """CB: the mean of accuracy and of the F1 averaged over the labels; an F1 without any case is 0."""
    sums = np.zeros((len(examples), 3 * len(labels) + 2))  # of each label: hits, false alarms, misses; right; items
    for row, example, output in zip(sums, examples, outputs, strict=True):
        given, answer = cleaned(output), example.targets[0]
        for number, label in enumerate(labels):
            row[3 * number : 3 * number + 3] = (
                given == label == answer,
                given == label != answer,
                given != label == answer,
            )
        row[-2:] = given == answer, 1
    total = sums.sum(0, keepdims=True)
    f1, right = _f1_macro(total, len(labels)), total[:, -2] / total[:, -1]
    error = resampling.of_function(sums, lambda s: (_f1_macro(s, len(labels)) + s[:, -2] / s[:, -1]) / 2)
    metrics = {"f1_macro": 100 * float(f1[0]), "accuracy": 100 * float(right[0])}
    return Judged(
        sum(metrics.values()) / 2,
        metrics,
        [example.id for example in examples],
        sums[:, -2].tolist(),
        resampling.in_per_cent(error),
        "mean of macro F1 and accuracy",
    )


def f1_and_exact_match_of_questions(examples: Sequence[Example], outputs: Sequence[str]) -> Judged:
    """MultiRC: the mean of F1a, the F1 of "True" over all answers, and of the share of questions (`group`) of which
    every answer is judged right. Of its items, the questions, each has the score of its answers; the standard error is
    over questions."""
    of_question: dict[str, np.ndarray] = {}
    for example, output in zip(examples, outputs, strict=True):
        answer = example.targets[0] == "True"
        given = not answer if cleaned(output) not in ("True", "False") else cleaned(output) == "True"
        row = of_question.setdefault(example.group, np.zeros(4))  # hits, false alarms, misses, wrong
        row += (given and answer, given and not answer, answer and not given, given != answer)
    rows = np.array(list(of_question.values()))
    sums = np.column_stack([rows[:, :3], rows[:, 3] == 0, np.ones(len(rows))])
    total = sums.sum(0, keepdims=True)
    metrics = {"f1a": 100 * float(_f1(total[:, :3])[0]), "exact_match": 100 * float(total[0, 3] / total[0, 4])}
    error = resampling.of_function(sums, lambda s: (_f1(s[:, :3]) + s[:, 3] / s[:, 4]) / 2)
    return Judged(
        sum(metrics.values()) / 2,
        metrics,
        list(of_question),
        sums[:, 3].tolist(),
        resampling.in_per_cent(error),
        "mean of F1a and exact match of questions",
    )


def _f1_macro(sums: np.ndarray, labels: int) -> np.ndarray:
    mean: np.ndarray = np.mean([_f1(sums[:, 3 * number : 3 * number + 3]) for number in range(labels)], axis=0)
    return mean


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 = 2 TP / (2 TP + FP + FN) of counts (N,3); 0 where there is none of them."""
    hits, false_alarms, misses = counts.T
    denominator = 2 * hits + false_alarms + misses
    f1: np.ndarray = np.divide(2 * hits, denominator, out=np.zeros(len(counts)), where=denominator > 0)
    return f1
