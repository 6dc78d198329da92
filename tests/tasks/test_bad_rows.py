"""A row that is not as it should be: whichever field it is, it is named in one line with file and line."""

import copy
import json
import re

import pytest

from ablate.errors import UserError
from ablate.evaluation.zero_shot import local_tasks
from ablate.tasks import readers, superglue, webquestions, wmt, xsum
from ablate.tasks.task import from_files
from tests.evaluation.zero_shot import made_up
from tests.tasks import files

ROWS = {
    "boolq": [{"question": "is it", "passage": "it is", "label": True, "idx": 0}],
    "cb": files.cb(1),
    "copa": files.copa(1),
    "multirc": [
        files.MULTIRC,
        {
            "paragraph": "A crow.", "question": "What?", "answer": "A jug", "label": 1,
            "idx": {"paragraph": 0, "question": 1, "answer": 2},
        },
    ],
    "record": [
        files.RECORD,
        {
            "passage": "Ann met Bob.", "query": "@placeholder went", "entities": ["Ann", "Bob"], "answers": ["Bob"],
            "idx": {"passage": 0, "query": 1},
        },
    ],
    "rte": [{"premise": "a", "hypothesis": "b", "label": "entailment", "idx": 0}],
    "wic": [{"word": "a", "sentence1": "a b", "sentence2": "c a", "label": False, "idx": 0}],
    "wsc": [files.WSC],
}  # fmt: skip
TASKS = {
    **{name: superglue.TASKS[name] for name in ROWS},
    "xsum": xsum.TASK, "webquestions": webquestions.TASK, "wmt": wmt.TASK,
}  # fmt: skip
ROWS |= {
    "xsum": [{"document": "a cat sat", "summary": "cat", "id": "1"}],
    "webquestions": [{"qText": "who", "answers": ["Ann"], "qId": "q"}, {"question": "who", "answers": ["Ann"]}],
    "wmt": [{"translation": {"en": "a", "de": "b"}}],
}
WRONG = (None, 3, -1, 1.5, "", "word", [], [None], {}, {"other": 1}, True)


def places(value, path=()):
    """The paths of all values within one."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def changed(row):
    """The row with each of its values, at any depth, missing or another."""
    for *above, last in filter(None, places(row)):
        for wrong in (..., *WRONG):
            new = copy.deepcopy(row)
            place = new
            for key in above:
                place = place[key]
            if wrong is ...:
                del place[last]
            else:
                place[last] = wrong
            yield new


@pytest.mark.parametrize(("name", "number"), [(name, at) for name, rows in ROWS.items() for at in range(len(rows))])
def test_a_field_that_is_missing_or_another_is_a_line_or_does_no_harm(name, number):
    refused = 0
    for row in changed(ROWS[name][number]):
        try:
            found = TASKS[name].examples([readers.Row(row, "val.jsonl:7")])
        except UserError as error:
            refused += 1
            assert re.match(r"val\.jsonl:7: .", str(error)) and "\n" not in str(error), row
        else:
            texts = [text for one in found for text in (one.inputs, *one.targets, *one.accepted, one.id)]
            assert all(isinstance(text, str) for text in texts), row
    assert refused >= 8


@pytest.mark.parametrize("name", made_up.FILES)
def test_so_it_is_with_those_of_zero_shot_tasks(name, tmp_path):
    (row,) = made_up.rows(name, 1)
    refused = 0
    for number, one in enumerate(changed(row)):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(row) + "\n" + json.dumps(one) + "\n")
        try:
            local_tasks.read(name, path)
        except UserError as error:
            refused += 1
            assert str(error).startswith(f"{path}:2: ") and "\n" not in str(error), one
    assert refused >= 8


def test_two_items_of_one_name_are_refused(tmp_path):
    """What one model makes of an item is compared with what another does, by its name."""
    files.write(tmp_path / "CB" / "train.jsonl", files.cb(9))
    files.write(tmp_path / "CB" / "val.jsonl", [*files.cb(3), *files.cb(1)])
    with pytest.raises(UserError, match=r"evaluation\.superglue: the validation part of cb has two items cb/0"):
        superglue.TASKS["cb"].parts(str(tmp_path), None, "evaluation.superglue")


def test_a_folder_is_no_file(tmp_path):
    files.write(tmp_path / "CB" / "train.jsonl", files.cb(60))
    (tmp_path / "CB" / "val.jsonl").mkdir()
    assert "one in 5" in superglue.TASKS["cb"].parts(str(tmp_path), None, "e").source["split"]
    with pytest.raises(UserError, match=r"e\.train: there is no file .*val\.jsonl"):
        readers.named_files(tmp_path / "CB", ["val.jsonl"], "e.train")


@pytest.mark.parametrize("name", ["text.jsonl", "text.jsonl.gz"])
def test_the_line_that_is_no_utf8_is_named(tmp_path, name):
    import gzip

    content = b'{"a": 1}\n{"a": 2}\n{"a": "gr\xf6\xdfe"}\n{"a": 4}\n'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match=rf"{name}:3: invalid UTF-8"):
        [*readers.Files((tmp_path / name,)).rows()]


def test_a_line_that_is_nested_too_deeply_is_named(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}\n" + "[" * 100_000 + "\n")
    with pytest.raises(UserError, match=r"train\.jsonl:2: nested too deeply"):
        [*readers.Files((tmp_path / "train.jsonl",)).rows()]


def test_a_byte_order_mark_is_left_out(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(files.cb(1)[0]).encode() + b"\r\n")
    found = from_files(superglue.TASKS["cb"].examples, readers.Files((tmp_path / "train.jsonl",)), None, tmp_path)
    assert len(found.train) + len(found.validation) == 1
