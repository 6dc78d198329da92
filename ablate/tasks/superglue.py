"""SuperGLUE (Wang et al. 2019, https://arxiv.org/abs/1905.00537) in the text-to-text formats of T5.

Raffel et al. 2020 (https://arxiv.org/abs/1910.10683), appendix D, and their released code. WSC is in their simple form,
without the further training pairs (DPR) that they added.

    cb hypothesis: the language was peeled down premise: It was a complex language. ...      -> entailment
    wsc: Mark told Pete many lies about himself, which Pete included in his book. *He* ...   -> Pete

Two layouts are read: that of the official files, nested by passage, and that of the Hub, a row an item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial

from ablate.errors import UserError
from ablate.tasks.constants import labels, most_frequent
from ablate.tasks.example import Example
from ablate.tasks.metrics import answers, classification
from ablate.tasks.readers import Row
from ablate.tasks.task import Task, each

TRUTH = ("False", "True")
CB = ("entailment", "contradiction", "neutral")
RTE = ("entailment", "not_entailment")
CHOICES = ("choice1", "choice2")
HIGHLIGHT = "\n@highlight\n"  # where ReCoRD's passages go over to, and divide, their summary
SENTENCE_END = re.compile(r"(?<=[.?!\"'])" + HIGHLIGHT)


def boolq(row: Row) -> Example:
    """`boolq passage: ... question: ...`"""
    return Example(
        _id("boolq", row),
        "boolq passage: ",
        row.text("passage"),
        f" question: {row.text('question')}",
        (row.label(TRUTH),),
        split_key=row.text("passage"),
    )


def cb(row: Row) -> Example:
    """`cb hypothesis: ... premise: ...`"""
    return _entailment("cb", row, CB)


def rte(row: Row) -> Example:
    """`rte hypothesis: ... premise: ...`"""
    return _entailment("rte", row, RTE)


def copa(row: Row) -> Example:
    """`copa choice1: ... choice2: ... premise: ... question: cause`"""
    fields = "".join(f" {key}: {row.text(key)}" for key in ("choice1", "choice2"))
    premise = row.text("premise")
    return Example(
        _id("copa", row),
        f"copa{fields} premise: ",
        premise,
        f" question: {row.text('question')}",
        (row.label(CHOICES),),
        split_key=premise,
    )


def wic(row: Row) -> Example:
    """`wic sentence1: ... sentence2: ... word: ...`; the places of the word are left out, as in T5."""
    word = row.text("word")
    return Example(
        _id("wic", row),
        "wic sentence1: ",
        f"{row.text('sentence1')} sentence2: {row.text('sentence2')}",
        f" word: {word}",
        (row.label(TRUTH),),
        split_key=word,
    )


def wsc(row: Row) -> Example:
    """`wsc: ... *pronoun* ...` -> the referent; only the right referents are learned."""
    target = row.inner(row.value("target"), "'target'") if "target" in row.content else row
    text, pronoun, place = row.text("text"), target.text("span2_text"), target.value("span2_index")
    words = text.split()
    if not isinstance(place, int) or not 0 <= place < len(words) or pronoun not in words[place]:
        raise UserError(f"{row.where}: the word at 'span2_index' {place!r:.20} is not {pronoun!r}")
    words[place] = words[place].replace(pronoun, f"*{pronoun}*", 1)
    label = row.label(TRUTH)
    return Example(
        _id("wsc", row),
        "wsc: ",
        " ".join(words),
        "",
        (target.text("span1_text"),),
        answers=(label,),
        split_key=text,
        is_trained_on=label == "True",
    )


def multirc(rows: Iterable[Row]) -> list[Example]:
    """`multirc question: ... answer: ... paragraph: ...`, an example an answer."""
    return [
        Example(
            f"multirc/{'/'.join(map(str, place))}",
            f"multirc question: {row.text('question')} answer: {row.text('answer', may_be_empty=True)} paragraph: ",
            row.text("paragraph"),
            "",
            (row.label(TRUTH),),
            group=f"multirc/{'/'.join(map(str, place[:2]))}",
            split_key=row.text("paragraph"),
        )
        for place, row in _answers(rows)
    ]


def record(rows: Iterable[Row]) -> list[Example]:
    """`record query: ... entities: ..., ... passage: ...` -> each of the answers."""
    return [
        Example(
            f"record/{'/'.join(map(str, place))}",
            f"record query: {row.text('query')} entities: {', '.join(row.list_of('entities'))} passage: ",
            SENTENCE_END.sub(" ", row.text("passage")).replace(HIGHLIGHT, ". "),
            "",
            _answers_of(row),
            split_key=row.text("passage"),
        )
        for place, row in _queries(rows)
    ]


def _entailment(name: str, row: Row, labels: tuple[str, ...]) -> Example:
    premise = row.text("premise")
    before = f"{name} hypothesis: {row.text('hypothesis')} premise: "
    return Example(_id(name, row), before, premise, "", (row.label(labels),), split_key=premise)


def _id(name: str, row: Row) -> str:
    return f"{name}/{row.value('idx')}"


def _answers(rows: Iterable[Row]) -> Iterator[tuple[tuple[int, int, int], Row]]:
    """MultiRC, flat: (passage, question, answer) and a row with paragraph, question, answer and label."""
    for row in rows:
        if "passage" not in row.content:
            place = row.inner(row.value("idx"), "'idx'")
            yield (place.value("paragraph"), place.value("question"), place.value("answer")), row
            continue
        passage = row.inner(row.value("passage"), "'passage'")
        for number, question in enumerate(passage.list_of("questions")):
            asked = row.inner(question, "a question")
            for index, answer in enumerate(asked.list_of("answers")):
                given = row.inner(answer, "an answer")
                flat = {
                    "paragraph": passage.text("text"),
                    "question": asked.text("question"),
                    "answer": given.text("text", may_be_empty=True),  # one of the official file is
                    "label": given.value("label"),
                }
                yield (row.value("idx"), number, index), Row(flat, row.where)


def _queries(rows: Iterable[Row]) -> Iterator[tuple[tuple[int, int], Row]]:
    """ReCoRD, flat: (passage, query) and a row with passage, query, entities and answers."""
    for row in rows:
        if "qas" not in row.content:
            place = row.inner(row.value("idx"), "'idx'")
            yield (place.value("passage"), place.value("query")), row
            continue
        passage = row.inner(row.value("passage"), "'passage'")
        text = passage.text("text")
        spans = [row.inner(entity, "an entity") for entity in passage.list_of("entities")]
        entities = [text[span.value("start") : span.value("end") + 1] for span in spans]  # `end` is the last character
        for query in row.list_of("qas"):
            asked = row.inner(query, "a query")
            answers = [row.inner(answer, "an answer").text("text") for answer in asked.list_of("answers")]
            flat = {"passage": text, "query": asked.text("query"), "entities": _unique(entities), "answers": answers}
            yield (row.value("idx"), asked.value("idx")), Row(flat, row.where)


def _answers_of(row: Row) -> tuple[str, ...]:
    answers = _unique([str(answer) for answer in row.list_of("answers")])
    if not answers:
        raise UserError(f"{row.where}: 'answers' is empty")
    return tuple(answers)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


_accuracy = classification.accuracy
_cb = partial(classification.f1_macro_and_accuracy, labels=CB)

TASKS = {
    task.name: task
    for task in (
        Task("boolq", "BoolQ", each(boolq), _accuracy, labels(*TRUTH), "boolq"),
        Task("cb", "CB", each(cb), _cb, labels(*CB), "cb"),
        Task("copa", "COPA", each(copa), _accuracy, labels(*CHOICES), "copa"),
        Task("multirc", "MultiRC", multirc, classification.f1_and_exact_match_of_questions, labels(*TRUTH), "multirc"),
        Task("record", "ReCoRD", record, answers.f1_and_exact_match, most_frequent, "record"),
        Task("rte", "RTE", each(rte), _accuracy, labels(*RTE), "rte"),
        Task("wic", "WiC", each(wic), _accuracy, labels(*TRUTH), "wic"),
        Task("wsc", "WSC", each(wsc), answers.referents, labels("?"), "wsc"),
    )
}
