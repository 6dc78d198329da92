"""From a task of lm-eval and a model to the outcome of each item, and to scores.

What an item is worth in each metric, and how items become one number, is lm-eval's own code. Added to it are chance,
standard errors over items, and for tasks with right and wrong answers two scores that carry signal in small models:

    bits_per_byte    -log2 p(right answer) / its bytes, the mean over items
    margin           log2 p(right answer) / its bytes - the largest log2 p(wrong answer) / its bytes, likewise

Bytes are those of the answer's text in UTF-8, without the space that is put before it. Of several right answers the
most likely one per byte counts. A task whose answers are written has the bits per byte of its first reference answer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ablate.errors import UserError
from ablate.evaluation.zero_shot.loading import Loaded
from ablate.run.outcomes import Item
from ablate.run.score import LARGEST, Score

ACCURACIES = ("acc_norm", "acc", "exact_match", "acc_bytes", "acc_mutual_info")  # the first that a task has is its own
PER_CENT = "% right"
BITS_PER_BYTE, MARGIN = "bits_per_byte", "margin"
UNITS = {
    "perplexity": "perplexity of the answer",
    "word_perplexity": "perplexity a word",
    "byte_perplexity": "perplexity a byte",
    BITS_PER_BYTE: "bits a byte",
    MARGIN: "bits a byte",
}


Found = tuple[Score, list[float] | None]  # a score, and what each item adds to it where it is a mean over items


@dataclass(frozen=True)
class Answers:
    """The answers of an item that has a right one: their bytes, and which of them are right."""

    sizes: tuple[int, ...]
    right: tuple[int, ...]


@dataclass
class Asked:
    """An item: its number and document, what lm-eval asks of it, and what is asked besides."""

    id: int
    doc: Mapping[str, Any]
    requests: list[Any]
    answers: Answers | None = None
    reference: Any = None  # a request for the log-likelihood of a right answer, where the task asks for none


@dataclass(frozen=True)
class Result:
    """What a task came to. `failed`: scores that could not be taken, each with the reason."""

    items: tuple[Item, ...]
    scores: Mapping[str, Score]
    failed: Mapping[str, str] = field(default_factory=dict)


def asked(loaded: Loaded) -> list[Asked]:
    """What lm-eval asks of each item; raises UserError where the right answer of one is none of its answers."""
    task, found = loaded.task, []
    for number, doc in enumerate(loaded.docs):
        context = task.fewshot_context(
            doc, num_fewshot=task.config.num_fewshot or 0, gen_prefix=task.doc_to_prefix(doc)
        )
        metadata = (loaded.name, number, task.config.repeats)
        requests = task.construct_requests(
            doc=doc, ctx=context, metadata=metadata, apply_chat_template=False, chat_template=None
        )
        item = Asked(number, doc, requests if isinstance(requests, list) else [requests])
        _add_answers(loaded, item)
        found.append(item)
    return found


def _add_answers(loaded: Loaded, item: Asked) -> None:
    """Which of an item's requests are answers, and right ones; for what is written, ask for the reference answer."""
    task, kind = loaded.task, loaded.task.OUTPUT_TYPE
    if kind == "loglikelihood":
        item.answers = Answers((_size(task, item.requests[0]),), (0,))
    elif kind == "multiple_choice":
        choices = task.doc_to_choice(item.doc)
        right = _right(task, item.doc, choices)
        if not right or not all(0 <= one < len(choices) for one in right):
            answer = (task.doc_to_text if task.multiple_input else task.doc_to_target)(item.doc)
            raise UserError(
                f"{loaded.name}: item {item.id}: the answer {answer!r:.60} is none of its {len(choices)} choices"
            )
        item.answers = Answers(tuple(_size(task, request) for request in item.requests[: len(choices)]), right)
    elif kind == "generate_until":
        reference = task.doc_to_target(item.doc)
        reference = reference[0] if isinstance(reference, list) and reference else reference
        if isinstance(reference, str) and reference:
            item.reference = _likelihood_of(item.requests[0], f"{task.config.target_delimiter}{reference}")
            item.answers = Answers((_size(task, item.reference),), (0,))


def _right(task: Any, doc: Mapping[str, Any], choices: list[str]) -> tuple[int, ...]:
    """The numbers of the right choices, as lm-eval reads them."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    golds = gold if isinstance(gold, list) else [gold]
    return tuple(choices.index(one) if isinstance(one, str) and one in choices else _number(one) for one in golds)


def _number(gold: Any) -> int:
    return gold if isinstance(gold, int) and not isinstance(gold, bool) else -1


def _size(task: Any, request: Any) -> int:
    text = request.args[1]
    return max(len(text.removeprefix(task.config.target_delimiter or "").encode()), 1)


def _likelihood_of(request: Any, answer: str) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", request.doc, (request.args[0], answer), 0)


def score(loaded: Loaded, items: list[Asked], model: Any) -> Result:
    """Ask `model`, an lm-eval `LM`, and score its answers."""
    requests: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        for request in item.requests:
            requests[request.request_type] += [request] * (request.repeats or 1)
        if item.reference is not None:
            requests["loglikelihood"].append(item.reference)
    for kind, of_kind in requests.items():
        for request, response in zip(of_kind, getattr(model, kind)(of_kind), strict=True):
            request.resps.append(response)
    loaded.task._instances = [request for item in items for request in item.requests]  # whose answers it filters
    loaded.task.apply_filters()
    return _Scores(loaded, items).result()


class _Scores:
    """The scores of one task, from items whose requests are answered."""

    def __init__(self, loaded: Loaded, items: list[Asked]):
        self.task, self.name, self.items = loaded.task, loaded.name, items
        filters = [*items[0].requests[0].filtered_resps]
        self.by_metric: dict[str, list[Any]] = defaultdict(list)  # a value for each item
        for number, one in enumerate(filters):
            suffix = f"_{one}" if number else ""  # of a task with several readings of what was written
            for item in items:
                responses = [request.filtered_resps[one] for request in item.requests]
                for metric, value in self.task.process_results(item.doc, responses).items():
                    self.by_metric[f"{metric}{suffix}"].append(value)
        self.log_likelihoods = [_log_likelihoods(item) for item in items]
        self.primary = next((metric for metric in ACCURACIES if metric in self.by_metric), None)

    def result(self) -> Result:
        """Outcomes and scores; a score that is no finite number is left out, and named."""
        scores, failed, values = {}, {}, {}
        for metric, name, make in self._makers():
            try:
                found, of_items = make()
            except OverflowError:
                failed[name] = "is too large a number"
                continue
            if not (math.isfinite(found.value) and abs(found.value) <= LARGEST):
                failed[name] = f"was {found.value}"
                continue
            scores[name] = replace(found, source={"metric": metric}, exploratory=True)
            if of_items is not None:
                values[name] = of_items
        right = None if self.primary is None else [float(value) for value in self.by_metric[self.primary]]
        items = tuple(
            Item(
                item.id,
                None if right is None else right[number],
                tuple(self.log_likelihoods[number]),
                {name: of_items[number] for name, of_items in values.items()},
            )
            for number, item in enumerate(self.items)
        )
        return Result(items, scores, failed)

    def _makers(self) -> Iterator[tuple[str, str, Callable[[], Found]]]:
        """The metrics, each with the name of its score and what makes it."""
        for metric in self.by_metric:
            name = self.name if metric == self.primary else f"{self.name}_{metric}"
            yield metric, name, partial(self._of_metric, metric)
        own = {BITS_PER_BYTE: (_bits_per_byte, False), MARGIN: (_margin, True)}
        if self.task.OUTPUT_TYPE != "multiple_choice":
            del own[MARGIN]
        if all(item.answers for item in self.items):
            for metric, (of, higher) in own.items():
                yield metric, f"{self.name}_{metric}", partial(self._of_answers, metric, of, higher)

    def _of_answers(self, unit: str, of: Callable[[Answers, Sequence[float]], float], higher: bool) -> Found:
        """The mean over items of a function of their answers."""
        found = [
            of(item.answers, one) for item, one in zip(self.items, self.log_likelihoods, strict=True) if item.answers
        ]
        value, error = float(np.mean(found)), _standard_error("mean", found)
        return Score(value, UNITS[unit], higher, len(found), error), found

    def _of_metric(self, metric: str) -> Found:
        """The score of one of the task's metrics."""
        values = self.by_metric[metric]
        base = metric if metric in self.task.aggregation() else metric.rpartition("_")[0]
        aggregate = self.task.aggregation()[base]
        higher = bool(self.task.higher_is_better().get(base, True))
        kind = getattr(aggregate, "__name__", "")
        value, error = float(aggregate(values)), _standard_error(kind, values)
        if base in ACCURACIES:
            of_items = [100 * float(one) for one in values]
            found = Score(100 * value, PER_CENT, higher, len(values), _times(error, 100), self._chance(base))
            return found, of_items
        found = Score(value, UNITS.get(base, base), higher, len(values), error)
        is_mean = kind == "mean" and all(isinstance(one, (int, float)) for one in values)
        return found, [float(one) for one in values] if is_mean else None

    def _chance(self, metric: str) -> float:
        """What guessing scores, in per cent: the share of right choices, the mean over items; of what is written, 0."""
        if self.task.OUTPUT_TYPE != "multiple_choice" or metric == "exact_match":
            return 0.0
        shares = [len(set(item.answers.right)) / len(item.answers.sizes) for item in self.items if item.answers]
        return 100 * sum(shares) / len(shares)


def _log_likelihoods(item: Asked) -> list[float]:
    """Of the answers, in nats; of a whole text, where that is asked for."""
    if item.reference is not None:
        return [float(item.reference.resps[0][0])]
    found = []
    for request in item.requests:
        if request.request_type == "loglikelihood":
            found.append(float(request.resps[0][0]))
        elif request.request_type == "loglikelihood_rolling":
            found.append(float(request.resps[0]))
    return found


def _bits_per_byte(answers: Answers, log_likelihoods: Sequence[float]) -> float:
    return -max(_per_byte(answers, log_likelihoods)[one] for one in answers.right)


def _margin(answers: Answers, log_likelihoods: Sequence[float]) -> float:
    rates = _per_byte(answers, log_likelihoods)
    wrong = [rate for number, rate in enumerate(rates) if number not in answers.right]
    return max(rates[one] for one in answers.right) - max(wrong, default=0.0)


def _per_byte(answers: Answers, log_likelihoods: Sequence[float]) -> list[float]:
    """log2 p of each answer, a byte."""
    return [
        value / size / math.log(2)
        for value, size in zip(log_likelihoods[: len(answers.sizes)], answers.sizes, strict=True)
    ]


def _standard_error(aggregate: str, values: Sequence[Any]) -> float | None:
    """Over items, of what lm-eval's function of this name makes of their values; None where it is not known.

    Of a mean s / sqrt(n); of the exponential of one that times the exponential (the delta method); and where the items
    are (log-likelihood, weight), of the ratio of the sums.
    """
    if len(values) < 2:
        return None
    if aggregate in ("weighted_perplexity", "bits_per_byte"):
        nats, weights = np.array(values, dtype=float).T
        ratio = nats.sum() / weights.sum()
        error = float(math.sqrt(len(values)) * (nats - ratio * weights).std(ddof=1) / weights.sum())
        return error / math.log(2) if aggregate == "bits_per_byte" else error * math.exp(-ratio)
    if aggregate not in ("mean", "perplexity"):
        return None
    try:
        numbers = np.array(values, dtype=float)
    except (TypeError, ValueError):
        return None
    error = float(numbers.std(ddof=1) / math.sqrt(len(values)))
    return error * math.exp(-numbers.mean()) if aggregate == "perplexity" else error


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
