"""Tasks whose data may be files in a folder: where these are, and each line as lm-eval's task file expects it.

Each task is a `LocalTask` in `TASKS`. Its `convert` takes the object of a line and returns a document with lm-eval's
own field names, or raises ValueError with what is wrong. Nothing else of a task is decided here: prompt, choices and
scorer are those of lm-eval.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ablate.data.data_faults import DataFaults
from ablate.data.readers import numbered_lines
from ablate.errors import UserError, nearest
from ablate.run import json_text
from ablate.run.files import sha256

Document = dict[str, Any]
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


@dataclass(frozen=True)
class LocalTask:
    """One task.

    folder: of lm-eval's tasks, which has its task file.
    files: how the name of its file begins, below the folder of the data; the first of which there is one counts.
    convert: from a line's object to a document.
    items: how many the published set has, in the split that published figures are of.
    published_split: that split, where it is not the one in the file.
    train: the same as `files` for examples of the prompt.
    note: what else keeps its figures from being compared with published ones.
    """

    folder: str
    files: tuple[str, ...]
    convert: Callable[[Mapping[str, Any]], Document]
    items: int
    published_split: str = "validation"
    train: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Documents:
    """What a file has: its documents, in their order, and its SHA-256."""

    path: Path
    sha256: str
    rows: list[Document] = field(repr=False)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = _field(row, name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be text, and is {value!r:.60}")
    return value


def _texts(row: Mapping[str, Any], name: str) -> list[str]:
    values = _field(row, name)
    if not isinstance(values, list) or not values or not all(isinstance(text, str) and text for text in values):
        raise ValueError(f"{name} must be a list of texts, and is {values!r:.60}")
    return values


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise ValueError(f"has no field {name!r}{nearest(name, row)}")
    return row[name]


def _label(row: Mapping[str, Any], name: str, labels: Iterable[Any]) -> Any:
    """The field, which must be one of `labels`, whether it is written as a number or as text."""
    value, labels = _field(row, name), list(labels)
    for label in labels:
        if str(value).strip() == str(label):
            return label
    raise ValueError(f"{name} must be one of {', '.join(map(str, labels))}, and is {value!r:.60}")


def _boolq(row: Mapping[str, Any]) -> Document:
    value = _field(row, "label" if "label" in row or "answer" not in row else "answer")
    if value not in (0, 1) or isinstance(value, float):
        raise ValueError(f"label must be true or false, and is {value!r:.60}")
    return {"passage": _text(row, "passage"), "question": _text(row, "question"), "label": int(value)}


def _piqa(row: Mapping[str, Any]) -> Document:
    return {**{name: _text(row, name) for name in ("goal", "sol1", "sol2")}, "label": _label(row, "label", (0, 1))}


def _siqa(row: Mapping[str, Any]) -> Document:
    texts = {name: _text(row, name) for name in ("context", "question", "answerA", "answerB", "answerC")}
    return {**texts, "label": _label(row, "label", ("1", "2", "3"))}


def _hellaswag(row: Mapping[str, Any]) -> Document:
    endings = _texts(row, "endings")
    label = str(_label(row, "label", range(len(endings))))
    if "ctx_a" in row:
        parts = {"activity_label": _text(row, "activity_label"), "ctx_a": _text(row, "ctx_a")}
        return {**parts, "ctx_b": str(_field(row, "ctx_b")), "endings": endings, "label": label}
    return {**_hellaswag_parts(_text(row, "query")), "endings": endings, "label": label}


def _hellaswag_parts(query: str) -> Document:
    """lm-eval makes its prompt of three parts: `activity: ctx_a ctx_b`, where ctx_b begins the sentence to be ended.

    A query has them in one text. What comes after the last whole sentence is ctx_b; lm-eval capitalises it.
    """
    activity, colon, rest = query.partition(": ")
    if not colon:
        raise ValueError(f"query must begin with an activity and a colon, and is {query!r:.60}")
    sentences = re.match(r"(.*[.!?][\"')]*)\s+(.*)", rest, re.DOTALL)
    begun = "" if re.search(r"[.!?][\"')]*\s*$", rest) else (sentences[2] if sentences else "")
    return {"activity_label": activity, "ctx_a": rest.removesuffix(begun).rstrip(), "ctx_b": begun.strip()}


def _winogrande(row: Mapping[str, Any]) -> Document:
    texts = {name: _text(row, name) for name in ("sentence", "option1", "option2")}
    if "_" not in texts["sentence"]:
        raise ValueError("sentence has no _, which the options are put in place of")
    return {**texts, "answer": _label(row, "answer", ("1", "2"))}


def _choices(question: str, row: Mapping[str, Any]) -> Document:
    """ARC and OpenBookQA, whose choices are {text: [...], label: [...]}."""
    choices = _field(row, "choices")
    if not isinstance(choices, dict):
        raise ValueError(f"choices must have text and label, and are {choices!r:.60}")
    texts, labels = _texts(choices, "text"), [str(label) for label in _texts(choices, "label")]
    if len(texts) != len(labels):
        raise ValueError(f"choices have {len(texts)} texts and {len(labels)} labels")
    answer = _label(row, "answerKey", labels)
    return {question: _text(row, question), "choices": {"text": texts, "label": labels}, "answerKey": answer}


def _nq_open(row: Mapping[str, Any]) -> Document:
    return {"question": _text(row, "question"), "answer": _texts(row, "answer")}


def _lambada(row: Mapping[str, Any]) -> Document:
    text = _text(row, "text")
    if " " not in text.strip():
        raise ValueError(f"text must have two words or more, and is {text!r:.60}")
    return {"text": text}


def _wikitext(row: Mapping[str, Any]) -> Document:
    return {"page": _text(row, "page" if "page" in row else "text")}


TASKS: dict[str, LocalTask] = {
    "boolq": LocalTask(
        "super_glue/boolq",
        ("superglue/BoolQ/val", "BoolQ/val", "boolq"),
        _boolq,
        3270,
        train=("superglue/BoolQ/train", "BoolQ/train"),
    ),
    "piqa": LocalTask("piqa", ("piqa",), _piqa, 1838),
    "social_iqa": LocalTask("siqa", ("siqa", "social_iqa"), _siqa, 1954),
    "hellaswag": LocalTask("hellaswag", ("hellaswag",), _hellaswag, 10042),
    "winogrande": LocalTask("winogrande", ("winogrande",), _winogrande, 1267),
    "arc_easy": LocalTask("arc", ("ARC-Easy", "arc_easy"), partial(_choices, "question"), 2376, "test"),
    "arc_challenge": LocalTask("arc", ("ARC-Challenge", "arc_challenge"), partial(_choices, "question"), 1172, "test"),
    "openbookqa": LocalTask("openbookqa", ("openbookqa",), partial(_choices, "question_stem"), 500, "test"),
    "nq_open": LocalTask("nq_open", ("nq_open",), _nq_open, 3610),
    "lambada_openai": LocalTask("lambada", ("lambada_openai",), _lambada, 5153, "test"),
    "wikitext": LocalTask(
        "wikitext",
        ("corpus/wikitext2-valid", "wikitext2-valid", "wikitext"),
        _wikitext,
        62,
        "test",
        note="rare words of the text are <unk>, which lm-eval's own data spells out",
    ),
}


def find(task: str, folder: Path, *, train: bool = False) -> Path | None:
    """A task's file in the folder of the data, or in its `zeroshot/`; None where there is none.

    Raises UserError where several files have its name.
    """
    local = TASKS[task]
    for begin in local.train if train else local.files:
        for parent in (folder, folder / "zeroshot"):
            there = sorted(path for path in parent.glob(f"{begin}*") if path.name.endswith(ENDINGS) and path.is_file())
            there = [path for path in there if re.match(r"[.\-_](?!\w*train)|$", path.name[len(Path(begin).name) :])]
            if len(there) > 1:
                names = " and ".join(str(path) for path in there)
                raise UserError(f"evaluation.zero_shot.data={folder}: {names} may both be {task}; leave one of them")
            if there:
                return there[0]
    return None


def read(task: str, path: Path) -> Documents:
    """The documents of a task's file; raises UserError with file and line for the first that cannot be used."""
    rows = [_converted(task, f"{path}:{number}", line) for number, line in _lines(path)]
    if not rows:
        raise UserError(f"{path}: has no items")
    return Documents(path, sha256(path), rows)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    faults = DataFaults("skip", None)
    for number, line in numbered_lines(str(path), faults):
        if line is None:
            raise UserError(faults.examples[-1])
        if line.strip():
            yield number, line


def _converted(task: str, where: str, line: str) -> Document:
    try:
        row = json_text.parse(line)
        if not isinstance(row, dict):
            raise ValueError(f"must be an object, and is {row!r:.60}")
        return TASKS[task].convert(row)
    except ValueError as error:
        reason = f"no JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where}: {reason}") from None
