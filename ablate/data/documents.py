"""The documents of one file, by its ending; bad ones are reported by file and line."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.data.compressed import FORMATS
from ablate.data.data_faults import DataFaults
from ablate.data.readers import LONGEST, NoColumn, column, first_line, is_text, numbered_lines
from ablate.errors import UserError, nearest


@dataclass(frozen=True)
class Reading:
    """How files are read.

    text: the key or column with the text.
    split_txt: what one document of a .txt file is: a "paragraph" (blank lines between), a "line", or the "document".
    """

    text: str
    split_txt: str


def documents(file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    """The documents of `file`, which has an ending that is read; bad ones are reported to `faults`."""
    return KINDS[kind_of(file)].read(file, how, faults)


def kind_of(file: str) -> str:
    """The ending by which `file` is read, without that of a compression; empty where files of its kind are not read."""
    name = file.lower()
    for ending, kind in KINDS.items():
        if name.endswith(tuple(ending + packed for packed in kind.packed)):
            return ending
    return ""


def _from_txt(file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    block: list[str] = []
    start, size, spoiled = 1, 0, False
    for number, line in numbered_lines(file, faults):
        if line is None:  # cannot be used: the whole document is left out
            spoiled = how.split_txt != "line"
            continue
        ends = how.split_txt == "line" or (how.split_txt == "paragraph" and not line.strip())
        if not block:
            start, size = number, 0
        if line.strip() or how.split_txt == "document":
            block.append(line)
            size += len(line) + 1
        if size > LONGEST and not spoiled:
            faults.bad("document too long", f"{file}:{start}", f"more than {LONGEST:,} characters")
            spoiled = True
        if ends:
            if block and not spoiled:
                yield from _usable("\n".join(block), f"{file}:{start}", faults)
            block, spoiled = [], False
        elif spoiled:
            block = []
    if block and not spoiled:
        yield from _usable("\n".join(block), f"{file}:{start}", faults)


def _from_jsonl(file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    return _rows(numbered_lines(file, faults), file, how, faults)


def _from_json(file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    """JSON lines, or one array of objects."""
    lines = numbered_lines(file, faults)
    head = list(itertools.islice(lines, 1))
    while head and not (head[-1][1] or "").strip() and (line := next(lines, None)):
        head.append(line)
    start = (head[-1][1] or "").strip() if head else ""
    whole = itertools.chain(head, lines)
    if start == "{":
        faults.bad("one JSON object over several lines", file, "must be JSON lines, or one array of objects")
        return iter(())
    return _from_array(whole, file, how, faults) if start.startswith("[") else _rows(whole, file, how, faults)


def _rows(lines: Iterator[tuple[int, str | None]], file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    for number, line in lines:
        where = f"{file}:{number}"
        if line is None:
            continue
        if not line.strip():
            faults.note("blank line", where)
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.bad("broken JSON", where, _reason(error))
            continue
        yield from _text_in(row, how.text, where, faults)


def _from_array(lines: Iterator[tuple[int, str | None]], file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    text, size = [], 0
    for _, line in lines:
        if line is None:
            return  # reported by its reader
        text.append(line)
        size += len(line) + 1
        if size > LONGEST:
            faults.bad("JSON array too long", file, f"more than {LONGEST:,} characters; write it as JSON lines")
            return
    try:
        rows = json.loads("\n".join(text))
    except (ValueError, RecursionError) as error:
        faults.bad("broken JSON", file, _reason(error))
        return
    for number, row in enumerate(rows, 1):
        yield from _text_in(row, how.text, f"{file}: item {number}", faults)


def _from_table(file: str, how: Reading, faults: DataFaults) -> Iterator[str]:
    kind = kind_of(file).removeprefix(".")
    number = 0
    try:
        for text in column(file, kind, how.text) if os.path.getsize(file) else ():
            number += 1
            yield from text_of({how.text: text}, how.text, f"{file}: row {number}", faults)
    except UserError:
        raise
    except NoColumn as error:
        refuse_column(how.text, error.columns, file)
    except Exception as error:  # pyarrow raises many types for a truncated file
        faults.bad(f"unreadable {kind} file", file, first_line(error))


def _reason(error: ValueError | RecursionError) -> str:
    """What is wrong with JSON, and where in its line."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return first_line(error)


def _text_in(row: Any, key: str, where: str, faults: DataFaults) -> Iterator[str]:
    """The text of a row of JSON; nothing where the row is not an object, or has no usable text."""
    if isinstance(row, dict):
        yield from text_of(row, key, where, faults)
    else:
        faults.bad("not a JSON object", where, f"a {type(row).__name__}")


def text_of(row: dict[str, Any], key: str, where: str, faults: DataFaults) -> Iterator[str]:
    """The text of a row, unless it is missing or unusable."""
    if key not in row:
        faults.bad("no text", where, f"no key {key!r}, only {', '.join(map(repr, row)) or 'none'}{nearest(key, row)}")
    elif row[key] is None:
        faults.bad("no text", where, f"{key!r} is null")
    elif not isinstance(row[key], str):
        faults.bad("no text", where, f"{key!r} is a {type(row[key]).__name__}")
    else:
        yield from _usable(row[key], where, faults)


def _usable(text: str, where: str, faults: DataFaults) -> Iterator[str]:
    if not text.strip():
        faults.bad("empty document", where)
    elif not is_text(text):
        faults.bad("invalid Unicode", where, "half of a surrogate pair")
    else:
        if "\0" in text:
            faults.note("NUL characters, kept", where)
        yield text


def refuse_column(text: str, columns: Sequence[str], where: str) -> None:
    """Raise UserError: `where` has no column `text`."""
    raise UserError(f"data.text={text}: {where} has the columns {', '.join(columns)}{nearest(text, columns)}")


@dataclass(frozen=True)
class FileKind:
    """How files with some ending are read, and the endings of a compression that may follow it."""

    read: Callable[[str, Reading, DataFaults], Iterator[str]]
    packed: tuple[str, ...] = ("", *FORMATS)


KINDS = {  # the one list of what is read
    ".txt": FileKind(_from_txt),
    ".jsonl": FileKind(_from_jsonl),
    ".ndjson": FileKind(_from_jsonl),
    ".json": FileKind(_from_json),
    ".parquet": FileKind(_from_table, packed=("",)),  # these compress their columns themselves
    ".arrow": FileKind(_from_table, packed=("",)),
}
_COMPRESSED = ", ".join(ending for ending, kind in KINDS.items() if len(kind.packed) > 1)
_TABLES = ", ".join(ending for ending, kind in KINDS.items() if len(kind.packed) == 1)
READABLE = f"{_COMPRESSED} (each also with {', '.join(FORMATS)}), {_TABLES}"
