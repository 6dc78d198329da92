"""SuperGLUE's formats: each against the form that T5 gives it (Raffel et al. 2020, appendix D, and its code)."""

import pytest

from ablate.errors import UserError
from ablate.tasks import superglue
from ablate.tasks.readers import Row
from tests.tasks import files


def one(name, content):
    """The inputs and targets of the first example of a row."""
    example = superglue.TASKS[name].examples([Row(content, "f:1")])[0]
    return example.inputs, example.targets


@pytest.mark.parametrize(
    ("name", "content", "inputs", "targets"),
    [
        (
            "boolq",
            {"question": "is it wet", "passage": "Rain -- falls.", "label": True, "idx": 0},
            "boolq passage: Rain -- falls. question: is it wet",
            ("True",),
        ),
        (
            "cb",
            {"premise": "It is.", "hypothesis": "it was", "label": "contradiction", "idx": 0},
            "cb hypothesis: it was premise: It is.",
            ("contradiction",),
        ),
        (
            "rte",
            {"premise": "It is.", "hypothesis": "It was.", "label": 1, "idx": 0},
            "rte hypothesis: It was. premise: It is.",
            ("not_entailment",),
        ),
        (
            "copa",
            {"premise": "P.", "choice1": "A.", "choice2": "B.", "question": "effect", "label": 1, "idx": 0},
            "copa choice1: A. choice2: B. premise: P. question: effect",
            ("choice2",),
        ),
        (
            "wic",
            {"sentence1": "A pot.", "sentence2": "No pot.", "word": "pot", "label": False, "idx": 0, "start1": 2},
            "wic sentence1: A pot. sentence2: No pot. word: pot",
            ("False",),
        ),
        ("wsc", files.WSC, "wsc: Tom asked Jim if he could help *him*.", ("Tom",)),
        (
            "wsc",
            {"text": "Tom saw him .", "span1_text": "Tom", "span2_text": "him", "span2_index": 2, "label": 1, "idx": 1},
            "wsc: Tom saw *him* .",
            ("Tom",),
        ),
        (
            "multirc",
            files.MULTIRC,
            "multirc question: What did it see? answer: A jug paragraph: A crow saw a jug. It was thirsty.",
            ("True",),
        ),
        (
            "multirc",
            {
                "paragraph": "P.", "question": "Q?", "answer": "A", "label": 0,
                "idx": {"paragraph": 1, "question": 2, "answer": 3},
            },
            "multirc question: Q? answer: A paragraph: P.",
            ("False",),
        ),
        (
            "record",
            files.RECORD,
            "record query: @placeholder went away entities: Ann, Bob passage: Ann met Bob. They spoke. Bob left",
            ("Bob",),
        ),
        (
            "record",
            {
                "query": "@placeholder", "passage": "Ann.", "entities": ["Ann", "Eve"], "answers": ["Ann", "Eve"],
                "idx": {"passage": 1, "query": 2},
            },
            "record query: @placeholder entities: Ann, Eve passage: Ann.",
            ("Ann", "Eve"),
        ),
    ],
)  # fmt: skip
def test_format(name, content, inputs, targets):
    assert one(name, content) == (inputs, targets)


def test_only_right_referents_are_learned_and_all_are_judged():
    rows = [Row({**files.WSC, "label": label, "idx": number}, "f") for number, label in enumerate((True, False))]
    first, second = superglue.TASKS["wsc"].examples(rows)
    assert first.is_trained_on and not second.is_trained_on
    assert (first.accepted, second.accepted) == (("True",), ("False",))


def test_ids_and_groups():
    found = superglue.TASKS["multirc"].examples([Row(files.MULTIRC, "f")])
    assert [one.id for one in found] == ["multirc/4/0/0", "multirc/4/0/1"]
    assert {one.group for one in found} == {"multirc/4/0"}
    assert superglue.TASKS["record"].examples([Row(files.RECORD, "f")])[0].id == "record/7/9"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("cb", {"premise": "a", "hypothesi": "b", "label": 0, "idx": 0}, "no field 'hypothesis'; did you mean 'hypoth"),
        ("cb", {"premise": "a", "hypothesis": "b", "label": "neutrall", "idx": 0}, "did you mean 'neutral'"),
        ("cb", {"premise": "a", "hypothesis": "b", "label": -1, "idx": 0}, "'label' is -1, and must be one of entail"),
        ("cb", {"premise": " ", "hypothesis": "b", "label": 0, "idx": 0}, "'premise' must be a text that is not empty"),
        ("boolq", {"passage": 3, "question": "b", "label": 0, "idx": 0}, "'passage' must be a text"),
        ("wsc", {**files.WSC, "target": {**files.WSC["target"], "span2_index": 3}}, "'span2_index' 3 is not 'him'"),
        ("wsc", {**files.WSC, "target": "x"}, "'target' must be an object"),
        ("multirc", {"idx": 1, "passage": {"text": "a", "questions": 3}}, "'questions' must be a list"),
        ("record", {**files.RECORD, "qas": [{"query": "q", "idx": 1, "answers": []}]}, "'answers' is empty"),
    ],
)
def test_bad_rows_are_named_with_their_place(name, content, line):
    with pytest.raises(UserError, match="^f.jsonl:3: ") as refused:
        superglue.TASKS[name].examples([Row(content, "f.jsonl:3")])
    assert line in str(refused.value)
