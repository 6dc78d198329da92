"""Where the parts of a task come from: files beside each other, or one of which a fifth is held out."""

import gzip
import json

import pytest

from ablate.errors import UserError
from ablate.tasks import constants, readers, superglue, webquestions, wmt, xsum
from ablate.tasks.example import Example
from ablate.tasks.splits import divided, limited
from ablate.tasks.task import from_files
from tests.tasks import files

CB = superglue.TASKS["cb"]


@pytest.mark.parametrize(
    "names", [("train.jsonl", "val.jsonl"), ("train.jsonl.gz", "validation.jsonl"), ("train32.jsonl", "dev.jsonl.gz")]
)
def test_a_validation_file_is_used(tmp_path, names):
    files.write(tmp_path / "CB" / names[0], files.cb(9))
    files.write(tmp_path / "CB" / names[1], files.cb(3))
    parts = CB.parts(str(tmp_path), None, "evaluation.superglue")
    assert (len(parts.train), len(parts.validation)) == (9, 3)
    assert parts.source["split"] == names[1] and set(parts.source["sha256"]) == set(names)
    assert all(len(digest) == 64 for digest in parts.source["sha256"].values())


def test_else_a_fifth_of_the_passages_is_held_out(tmp_path):
    rows = [{**row, "premise": f"passage {row['idx'] // 2}"} for row in files.cb(1000)]
    files.write(tmp_path / "CB" / "train.jsonl", rows)
    parts = CB.parts(str(tmp_path), None, "e")
    assert "one in 5 passages" in parts.source["split"] and len(parts.train) + len(parts.validation) == 1000
    assert 150 < len(parts.validation) < 250
    assert not {one.passage for one in parts.train} & {one.passage for one in parts.validation}
    again = divided(list(reversed(CB.examples(readers.Row(row, "f") for row in rows))))
    assert {one.id for one in again[1]} == {one.id for one in parts.validation}


def test_a_limit_takes_whole_questions_and_always_the_same():
    """Of MultiRC an item is a question: half of its answers would be judged as all of them."""
    answers = [
        Example(f"{question}/{answer}", "", f"passage {question // 3}", "", ("True",), group=str(question))
        for question in range(20)
        for answer in range(4)
    ]
    taken = limited(answers, 5)
    assert len({one.group for one in taken}) == 5 and len(taken) == 20
    assert {one.id for one in limited(answers[::-1], 5)} == {one.id for one in taken}
    assert {one.id for one in limited(answers, 7)} > {one.id for one in taken}
    assert limited(answers, None) == limited(answers, 20) == answers
    assert len(limited(questions(*(["a"] for _ in range(9))), 4)) == 4


GOOD = "".join(json.dumps(row) + "\n" for row in files.cb(9)).encode()


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"CBX/train.jsonl": GOOD}, r"e\.data: there is no folder .*CB; did you mean 'CBX'"),
        ({"CB/other.jsonl": GOOD}, r"e\.data: .*CB has no train\.jsonl"),
        ({"CB/train.jsonl": GOOD, "CB/val.jsonl": b""}, "e: the validation part of cb is empty"),
        ({"CB/train.jsonl": b"", "CB/val.jsonl": GOOD}, "e: the training part of cb is empty"),
        ({"CB/train.jsonl": GOOD, "CB/val.jsonl": GOOD + b"{}\n"}, r"val\.jsonl:10: there is no field 'premise'"),
        ({"CB/train.jsonl": GOOD, "CB/val.jsonl": b"[1]\n"}, r"val\.jsonl:1: must be a JSON object"),
        ({"CB/train.jsonl": GOOD, "CB/val.jsonl": b"{\n"}, r"val\.jsonl:1: no JSON"),
        ({"CB/train.jsonl": GOOD, "CB/val.jsonl": b"\xff\n"}, r"val\.jsonl:1: invalid UTF-8"),
        ({"CB/train.jsonl.gz": gzip.compress(GOOD)[:-9]}, r"train\.jsonl\.gz:\d+: truncated gzip"),
        ({"CB/train.jsonl": GOOD, "CB/train2.jsonl": GOOD}, "leave one of them there"),
    ],
)
def test_what_is_missing_or_damaged_is_named(tmp_path, written, line):
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=line):
        CB.parts(str(tmp_path), None, "e")


def test_chance_is_that_of_the_best_constant():
    rows = [readers.Row(row, "f") for row in files.cb(4)]  # entailment twice
    assert CB.chance([], CB.examples(rows)) == pytest.approx(100 * (0.5 + (2 * 2 / 6) / 3) / 2)
    wsc = superglue.TASKS["wsc"]
    rows = [readers.Row({**files.WSC, "label": label}, "f") for label in (True, False, False)]
    assert wsc.chance([], wsc.examples(rows)) == pytest.approx(200 / 3)


def questions(*answers):
    return [Example(str(number), "", "q", "", tuple(given)) for number, given in enumerate(answers)]


def test_chance_of_short_answers_is_that_of_a_frequent_one_of_the_training_part():
    train = questions("ab", "bc", "b", "d")
    assert constants.most_frequent(train)[0] == "b"
    validation = questions("x", "B", "bd", "y")
    assert webquestions.TASK.chance(train, validation) == 50
    assert webquestions.TASK.chance(questions("z"), validation) == 0


def test_chance_of_texts_is_that_of_a_typical_one_of_the_training_part():
    pytest.importorskip("rouge_score")
    texts = ["a man has died after a fall", "a man has died in hospital", "prices rose", "a man has been hurt"]
    typical = constants.most_typical(questions(*([text] for text in texts)))
    assert typical[0].startswith("a man has") and typical[-1] == "prices rose"
    validation = questions(["a man has died at sea"], ["rain fell"])
    assert xsum.TASK.chance(questions([texts[2]]), validation) == 0
    assert xsum.TASK.chance(questions(*([text] for text in texts)), validation) > 25
    assert constants.most_typical(questions(["word"])) == ["word"]


def test_a_data_set_of_the_hub_that_cannot_be_loaded_is_named():
    with pytest.raises(UserError, match=r"e\.hub=nobody/nothing: nobody/nothing/cb/train cannot be loaded"):
        CB.parts("", "nobody/nothing", "e")


def test_the_hub_gives_rows(monkeypatch):
    import datasets

    rows = datasets.Dataset.from_list([{**row, "label": index % 3} for index, row in enumerate(files.cb(6))])
    monkeypatch.setattr(datasets, "load_dataset", lambda name, subset, split: rows)
    parts = CB.parts("", "some/superglue", "e")
    assert len(parts.train) == len(parts.validation) == 6 and parts.train[1].targets == ("contradiction",)
    assert parts.source["data"] == "some/superglue/cb" and len(parts.source["fingerprints"]) == 2


def test_xsum_and_webquestions(tmp_path):
    files.write(tmp_path / "x.jsonl", [{"document": "A.\nB.", "summary": "C.", "id": "5"}])
    files.write(tmp_path / "w.jsonl", [{"qId": "q1", "qText": "who?", "answers": ["Ann", "Eve"]}])
    article = from_files(xsum.TASK.examples, readers.named_files(tmp_path, "x.jsonl", "k"), None, tmp_path).train
    (question,) = webquestions.TASK.examples(readers.named_files(tmp_path, "w.jsonl", "k").rows())
    assert [(one.id, one.inputs, one.targets) for one in article] in ([], [("xsum/5", "summarize: A.\nB.", ("C.",))])
    assert (question.id, question.inputs) == ("webquestions/q1", "wq question: who?")
    assert question.targets == question.accepted == ("Ann", "Eve")
    with pytest.raises(UserError, match=r"k: there is no file .*y\.jsonl; did you mean 'x\.jsonl'"):
        readers.named_files(tmp_path, "y.jsonl", "k")


def test_parallel_text(tmp_path):
    (tmp_path / "a.en").write_text("I don &apos;t .\n\nYes\n")
    (tmp_path / "a.de").write_text("Nein !\nleer\nJa\n")
    rows = list(wmt.parallel(tmp_path, "a", is_tokenised=True, key="k"))
    first, second = wmt.TASK.examples(rows)
    assert (first.inputs, first.targets) == ("translate English to German: I don't.", ("Nein!",))
    assert (first.id, second.id) == ("wmt/a:1", "wmt/a:3")
    (tmp_path / "a.de").write_text("Nein !\n")
    with pytest.raises(UserError, match=r"a\.en:3: a\.de has 1 lines, and must have as many"):
        list(wmt.parallel(tmp_path, "a", is_tokenised=True, key="k"))
    with pytest.raises(UserError, match=r"k: there is no file .*b\.en"):
        list(wmt.parallel(tmp_path, "b", is_tokenised=True, key="k"))
