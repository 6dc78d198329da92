"""The lines of a text file with their numbers, read by the `datasets` library; what is no text is named by its line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from ablate.data.data_faults import Problems

HEAD = 1 << 20  # bytes of a file that are looked at for its line ends
BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def stream(path: str, name: str | None = None, **asked: Any) -> Any:
    """An iterable set of the `datasets` library that leaves no copy behind."""
    import datasets

    return datasets.load_dataset(path, name, streaming=True, **asked)


def numbered_lines(file: str, problems: Problems) -> Iterator[tuple[int, str | None]]:
    """The lines of `file` (.gz or not) from 1, without their ends; None for one that is no UTF-8."""
    _note_line_ends(file, problems)
    number = 0
    try:
        for batch in stream("text", data_files=[file], split="train").with_format("arrow").iter(batch_size=1000):
            for line in batch.column(0).to_pylist():
                number += 1
                yield number, _without_mark(line, number, file, problems)
        return
    except BROKEN:  # the library drops the whole block and does not say which line: read on by hand
        pass
    yield from _by_hand(file, number, problems)


def _by_hand(file: str, done: int, problems: Problems) -> Iterator[tuple[int, str | None]]:
    """The lines after the first `done`, one at a time, up to where the file breaks off."""
    number = 0
    opened = gzip.open if file.endswith(".gz") else open
    try:
        with opened(file, "rt", encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, 1):
                if number <= done:
                    continue
                line = line.removesuffix("\n")
                if is_text(line):
                    yield number, _without_mark(line, number, file, problems)
                else:
                    problems.bad("invalid UTF-8", f"{file}:{number}")
                    yield number, None
    except EOFError:
        problems.bad("truncated gzip", f"{file}:{number + 1}", "the rest of the file is missing")
    except (OSError, zlib.error) as error:
        problems.bad(
            "damaged gzip" if file.endswith(".gz") else "unreadable", f"{file}:{number + 1}", first_line(error)
        )


def _note_line_ends(file: str, problems: Problems) -> None:
    """Windows' line ends are read as \\n by every reader, so they are looked for here."""
    try:
        with (gzip.open if file.endswith(".gz") else open)(file, "rb") as opened:
            head = opened.read(HEAD)
    except BROKEN:
        return  # whoever reads the lines will say so
    if b"\r\n" in head:
        problems.note("Windows line ends (CRLF), read as LF", file)


def _without_mark(line: str, number: int, file: str, problems: Problems) -> str:
    if number == 1 and line.startswith("\ufeff"):
        problems.note("byte order mark, left out", f"{file}:1")
        return line[1:]
    return line


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
