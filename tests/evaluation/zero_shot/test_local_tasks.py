"""Task files in the layouts that are read, and what is said of those that cannot be."""

from __future__ import annotations

import json

import pytest

from ablate.errors import UserError
from ablate.evaluation.zero_shot import local_tasks
from ablate.evaluation.zero_shot.loading import Tasks
from ablate.evaluation.zero_shot.local_tasks import TASKS, find, read
from tests.evaluation.zero_shot.made_up import FILES, rows, write

SHOWN = {"boolq": ["passage"], "piqa": ["goal", "sol2"], "social_iqa": ["answerC"], "nq_open": ["question"]}


@pytest.mark.parametrize("task", TASKS)
def test_a_file_is_found_and_lm_eval_makes_prompts_of_it(task, tmp_path):
    path = write(tmp_path, task)
    assert find(task, tmp_path) == path
    (loaded,) = Tasks(tmp_path, None, None).load(task)
    assert loaded.name == task and loaded.of == len(rows(task)) and loaded.documents.path == path
    doc = loaded.docs[0]
    context = loaded.task.fewshot_context(doc, num_fewshot=0, gen_prefix=None)
    requests = loaded.task.construct_requests(doc=doc, ctx=context, metadata=(task, 0, 1))
    text = json.dumps([request.args for request in (requests if isinstance(requests, list) else [requests])])
    for name in SHOWN.get(task, ()):
        assert rows(task)[0][name] in text


@pytest.mark.parametrize("task", TASKS)
def test_a_missing_field_is_named_with_file_and_line(task, tmp_path):
    """Each field that the task needs."""
    good = rows(task)
    optional = {"idx", "ind", "id"}
    for name in good[1].keys() - optional:
        bad = {key: value for key, value in good[1].items() if key != name}
        path = write(tmp_path, task, [good[0], bad])
        with pytest.raises(UserError, match=rf"{path}:2: .*{name}"):
            read(task, path)


@pytest.mark.parametrize(
    "task, changes, words",
    [
        ("piqa", {"label": 2}, "label must be one of 0, 1, and is 2"),
        ("piqa", {"label": True}, "label must be one of 0, 1, and is True"),
        ("piqa", {"goal": 3}, "goal must be text, and is 3"),
        ("boolq", {"label": "maybe"}, "label must be true or false"),
        ("social_iqa", {"label": "4"}, "label must be one of 1, 2, 3"),
        ("hellaswag", {"label": 4}, "label must be one of 0, 1, 2, 3, and is 4"),
        ("hellaswag", {"query": "no colon"}, "query must begin with an activity"),
        ("hellaswag", {"endings": []}, "endings must be a list of texts"),
        ("winogrande", {"sentence": "no gap"}, "sentence has no _"),
        ("winogrande", {"answer": "3"}, "answer must be one of 1, 2"),
        ("arc_easy", {"answerKey": "E"}, "answerKey must be one of A, B, C, D, and is 'E'"),
        ("arc_easy", {"choices": {"text": ["a"], "label": ["A", "B"]}}, "1 texts and 2 labels"),
        ("openbookqa", {"choices": ["a"]}, "choices must have text and label"),
        ("nq_open", {"answer": "one"}, "answer must be a list of texts"),
        ("lambada_openai", {"text": "word"}, "text must have two words or more"),
    ],
)
def test_what_a_field_must_be(task, changes, words, tmp_path):
    good = rows(task)
    path = write(tmp_path, task, [good[0], good[1], {**good[2], **changes}])
    with pytest.raises(UserError) as error:
        read(task, path)
    assert str(error.value).startswith(f"{path}:3: ") and words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content, words", [([], "has no items"), (["", " "], "has no items")])
def test_an_empty_test_set(content, words, tmp_path):
    with pytest.raises(UserError, match=words):
        read("piqa", write(tmp_path, "piqa", content))


@pytest.mark.parametrize("line", ["{", "[1]", '{"goal": NaN}'])
def test_a_line_that_is_no_object(line, tmp_path):
    path = write(tmp_path, "piqa", [rows("piqa")[0], line])
    with pytest.raises(UserError, match=f"{path}:2: "):
        read("piqa", path)


def test_a_damaged_file(tmp_path):
    path = write(tmp_path, "hellaswag")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{path}:1: truncated gzip"):
        read("hellaswag", path)


@pytest.mark.parametrize(
    "query, parts",
    [
        ("Roof: A man is on a roof. he", ("Roof", "A man is on a roof.", "he")),
        ("Roof: A man! Another. the two men", ("Roof", "A man! Another.", "the two men")),
        ("How to sing: Breathe in. Sing.", ("How to sing", "Breathe in. Sing.", "")),
        ("Roof: A man", ("Roof", "A man", "")),
    ],
)
def test_the_query_of_hellaswag_in_parts(query, parts, tmp_path):
    row = {**rows("hellaswag")[0], "query": query}
    (document,) = read("hellaswag", write(tmp_path, "hellaswag", [row])).rows
    assert (document["activity_label"], document["ctx_a"], document["ctx_b"]) == parts


def test_two_files_of_one_task(tmp_path):
    write(tmp_path, "piqa")
    (tmp_path / "zeroshot" / "piqa.mine.jsonl").write_text("{}\n")
    (tmp_path / "zeroshot" / "piqa.train.jsonl").write_text("{}\n")  # is no second one
    with pytest.raises(UserError, match="may both be piqa"):
        find("piqa", tmp_path)


def test_files_may_be_in_the_folder_itself(tmp_path):
    path = write(tmp_path, "piqa")
    path.rename(tmp_path / "piqa.jsonl")
    assert find("piqa", tmp_path) == tmp_path / "piqa.jsonl"


def test_what_is_missing_is_said_without_lm_eval(tmp_path):
    write(tmp_path, "piqa")
    tasks = Tasks(tmp_path, None, None)
    tasks.check(["piqa"])
    with pytest.raises(UserError, match=r"no file for boolq, arc_easy .*tasks=\[piqa\]"):
        tasks.check(["piqa", "boolq", "arc_easy"])
    with pytest.raises(UserError, match="helaswag: no task whose data may be files; did you mean 'hellaswag'"):
        tasks.check(["helaswag"])
    with pytest.raises(UserError, match="data=.*nowhere: no such folder"):
        Tasks(tmp_path / "nowhere", None, None)
    assert set(FILES) == set(local_tasks.TASKS)
