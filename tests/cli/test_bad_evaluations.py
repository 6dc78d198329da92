"""What an evaluation cannot do is refused in one line, before anything is trained or scored, and leaves nothing."""

import gzip
import json

import pytest

from ablate import cli
from ablate.config import merge
from ablate.evaluation.zero_shot import scoring
from ablate.fine_tuning import loop
from ablate.run.folder import RunFolder
from ablate.training import fit, processes
from tests.evaluation.zero_shot import made_up
from tests.tasks import files
from tests.training.standin import folder_of, run

SIZE = ["shape.batch_tokens=512", "shape.length=32"]
CAUSAL = ["topology=causal_decoder", "objective=causal"]


def settings(name, *more):
    """A fine-tuning of one step on files of its own."""
    own = [f"evaluation.{name}.{key}" for key in ("steps=1", "warmup_steps=0", f"data=data/{name}", *more)]
    return [f"evaluation=[heldout,{name}]", *own]


CHOSEN = {
    "zero_shot": [
        "evaluation=[heldout,zero_shot]", "evaluation.zero_shot.data=data/zero_shot",
        "evaluation.zero_shot.tasks=[piqa,hellaswag]",
    ],
    "superglue": settings("superglue", "tasks=[cb,copa]"),
    "xsum": settings("xsum", "train=[train.jsonl.gz]", "validation=[val.jsonl.gz]"),
    "webquestions": settings("webquestions", "train=[train.jsonl]", "validation=[val.jsonl]"),
    "wmt_en_de": settings("wmt_en_de", "train=[train]", "validation=[val]", "tokenised=[]"),
}  # fmt: skip
FILES = {  # in which the fault is, and the field of it that is taken away
    "zero_shot": ("zero_shot/zeroshot/piqa.val_first900.jsonl", "goal"),
    "superglue": ("superglue/CB/val.jsonl", "hypothesis"),
    "xsum": ("xsum/val.jsonl.gz", "summary"),
    "webquestions": ("webquestions/val.jsonl", "answers"),
    "wmt_en_de": ("wmt_en_de/val.de", ""),
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Small files of all tasks, in `data/` of the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    for task in ("piqa", "hellaswag"):
        made_up.write(folder / "zero_shot", task)
    for part, count in (("train", 60), ("val", 12)):
        files.write(folder / f"superglue/CB/{part}.jsonl", files.cb(count))
        files.write(folder / f"superglue/COPA/{part}.jsonl", files.copa(count))
        articles = [{"document": f"a cat {number}", "summary": "cat", "id": str(number)} for number in range(count)]
        files.write(folder / f"xsum/{part}.jsonl.gz", articles)
        questions = [{"qText": f"who {number}", "answers": ["Ann"], "qId": f"q{number}"} for number in range(count)]
        files.write(folder / f"webquestions/{part}.jsonl", questions)
        for language in ("en", "de"):
            path = folder / f"wmt_en_de/{part}.{language}"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"ein satz {number}\n" for number in range(count)))
    return folder


def lines_of(path):
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines(keepends=True)


def write(path, lines):
    path.write_bytes(gzip.compress(b"".join(lines)) if path.suffix == ".gz" else b"".join(lines))


def without_a_field(path, field):
    lines = lines_of(path)
    if field:
        row = json.loads(lines[2])
        del row[field]
        lines[2] = json.dumps(row).encode() + b"\n"
    write(path, lines if field else lines[:-1])
    return ":3: " if field else ":12: val.de has 11 lines"


def in_another_encoding(path, field):
    lines = lines_of(path)
    lines[2] = "Größe\n".encode("latin-1")
    write(path, lines)
    return ":3: invalid UTF-8"


def cut_off(path, field):
    path.write_bytes(gzip.compress(path.read_bytes()) if path.suffix != ".gz" else path.read_bytes())
    path.write_bytes(path.read_bytes()[:-12])
    return ": invalid UTF-8" if path.suffix != ".gz" else "truncated gzip"


def empty(path, field):
    write(path, [])
    if path.suffix == ".de":
        write(path.with_suffix(".en"), [])
    return "empty" if "zero_shot" not in str(path) else "has no items"


def missing(path, field):
    for other in path.parent.iterdir():
        other.unlink()
    path.parent.rmdir()
    return "no "


@pytest.fixture
def refused(asked, data, monkeypatch, capsys):
    """`refused(*overrides)`: the one line with which `ablate train` refuses them."""
    monkeypatch.setattr(fit.Fit, "run", lambda self: pytest.fail("it trains"))

    def refuse(*overrides):
        capsys.readouterr()
        assert cli.run(["train", *asked(*merge([*SIZE, *CAUSAL], overrides))]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert not (data.parent / "runs").exists()
        return line

    return refuse


@pytest.mark.parametrize("fault", [without_a_field, in_another_encoding, cut_off, empty, missing])
@pytest.mark.parametrize("name", CHOSEN)
def test_a_file_that_cannot_be_used(refused, data, name, fault):
    path, field = FILES[name]
    told = fault(data / path, field)
    line = refused(*CHOSEN[name])
    assert told in line and ("data/" in line or fault is empty)


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("zero_shot", {"label": 7}, ":3: label must be one of 0, 1, and is 7"),
        ("superglue", {"label": "perhaps"}, ":3: 'label' is 'perhaps', and must be one of entailment, contradiction"),
        ("superglue", {"label": "contradictoin"}, "did you mean 'contradiction'"),
        ("xsum", {"summary": " "}, ":3: 'summary' must be a text that is not empty"),
        ("webquestions", {"answers": []}, ":3: 'answers' is empty"),
        ("webquestions", {"answers": [None]}, ":3: each of 'answers' must be a text"),
    ],
)
def test_an_answer_that_is_none(refused, data, name, row, told):
    path = data / FILES[name][0]
    lines = lines_of(path)
    lines[2] = json.dumps({**json.loads(lines[2]), **row}).encode() + b"\n"
    write(path, lines)
    assert told in refused(*CHOSEN[name])


@pytest.mark.parametrize("name", CHOSEN)
def test_an_encoder_is_not_asked_to_write(refused, name):
    line = refused(*CHOSEN[name], "topology=encoder", "objective=masked")
    assert f"evaluation={name} asks a model to write, and one of encoder alone writes no text" in line


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["evaluation.zero_shot.tasks=[piqqa]"], "did you mean 'piqa'?"),
        (["evaluation.zero_shot.tasks=[arc_easy]"], "has no file for arc_easy (looked for ARC-Easy*.jsonl); add the"),
        (["evaluation.zero_shot.data=null", "evaluation.zero_shot.tasks=[hellaswagg]"], "has no such task; did you"),
        (["evaluation.zero_shot.include_path=mine", "evaluation.zero_shot.tasks=[mine]"],
         "mine/mine.yaml:5: mine: unknown metric 'acccuracy'"),
        (["evaluation.zero_shot.include_path=nowhere"], "include_path=nowhere: no such folder"),
        (["evaluation.zero_shot.at=[0.5]"], "must contain 1"),
    ],
)  # fmt: skip
def test_a_task_or_a_metric_that_is_not_known(refused, data, overrides, told):
    (data.parent / "mine").mkdir()
    task = ["task: mine", "dataset_path: json", "output_type: multiple_choice", "metric_list:", "  - metric: acccuracy"]
    (data.parent / "mine" / "mine.yaml").write_text("\n".join(task))
    given = [word.partition("=")[0] for word in overrides]
    assert told in refused(*(word for word in CHOSEN["zero_shot"] if word.partition("=")[0] not in given), *overrides)


def test_several_processes_are_not_started_for_it(refused, data, monkeypatch):
    monkeypatch.setattr(processes, "launch", lambda *_: pytest.fail("they are started"))
    told = without_a_field(data / FILES["zero_shot"][0], "goal")
    assert told in refused(*CHOSEN["zero_shot"], "trainer.devices=2")


@pytest.mark.parametrize("name", ["superglue", "xsum", "webquestions", "wmt_en_de"])
def test_lengths_without_room_for_text(refused, name):
    assert "leave room for 1 ids of an input and 0 of an answer" in refused(
        *CHOSEN[name], f"evaluation.{name}.input_length=1"
    )


@pytest.mark.parametrize("name", ["zero_shot", "webquestions"])
def test_nothing_of_a_finished_run_is_scored_either(asked, data, name, monkeypatch, capsys):
    made = asked(*CAUSAL, *SIZE)
    run(made)
    folder = folder_of(made)
    before = folder.record.read_bytes()
    monkeypatch.setattr(scoring, "score", lambda *_: pytest.fail("it scores"))
    monkeypatch.setattr(loop.Loop, "run", lambda *_, **__: pytest.fail("it trains"))
    told = without_a_field(data / FILES[name][0], FILES[name][1])
    capsys.readouterr()
    words = [word.replace("[heldout,", "[") for word in CHOSEN[name]]
    assert cli.run(["evaluate", str(folder.path), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line and folder.record.read_bytes() == before
    assert not [*RunFolder(folder.path).path.glob("evaluation/*/scores.json")]
