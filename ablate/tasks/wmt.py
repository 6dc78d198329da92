"""WMT'14 English to German: parallel text files, a sentence a line.

translate English to German: Food: Where European inflation slipped up  ->  Lebensmittel schuld an europäischer ...
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ablate.errors import UserError
from ablate.tasks.constants import most_typical
from ablate.tasks.detokenise import detokenised
from ablate.tasks.example import Example
from ablate.tasks.metrics import generation
from ablate.tasks.readers import Row, numbered_lines
from ablate.tasks.task import Task, each

PREFIX = "translate English to German: "


def pair(row: Row) -> Example:
    """`translate English to German: ...` -> the German; of the Hub a pair is below `translation`."""
    inner = row.inner(row.value("translation"), "'translation'") if "translation" in row.content else row
    source = inner.text("en")
    return Example(f"wmt/{row.where}", PREFIX, source, "", (inner.text("de"),), split_key=source)


def parallel(folder: Path, name: str, *, is_tokenised: bool, key: str) -> Iterator[Row]:
    """The pairs of `name`.en and `name`.de below `folder`; a pair with an empty side is left out.

    is_tokenised: whether the text is of Moses' tokeniser, which is undone. Raises UserError where a file is missing,
    or has another number of lines than its counterpart.
    """
    files = [folder / f"{name}.{language}" for language in ("en", "de")]
    for file in files:
        if not file.is_file():
            raise UserError(f"{key}: there is no file {file}")
    english, german = (list(numbered_lines(file)) for file in files)
    if len(english) != len(german):
        raise UserError(f"{files[0]}:{len(english)}: {files[1].name} has {len(german)} lines, and must have as many")
    for (number, source), (_, target) in zip(english, german, strict=True):
        if source.strip() and target.strip():
            if is_tokenised:
                source, target = detokenised(source, "en"), detokenised(target, "de")
            yield Row({"en": source.strip(), "de": target.strip()}, f"{name}:{number}")


TASK = Task("wmt_ende", "", each(pair), generation.bleu, most_typical, subset="de-en", package="sacrebleu")
