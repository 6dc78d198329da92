"""The numbered lines of a text file, read by the `datasets` library; lines that are not text are reported by number."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

from ablate.data.data_faults import DataFaults

HEAD = 1 << 20  # bytes at the start of a file that are searched for its line ends
BROKEN = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def stream(path: str, name: str | None = None, **arguments: Any) -> Any:
    """A streamed dataset of the `datasets` library, which leaves no copy on disk; arguments as for `load_dataset`."""
    import datasets

    return datasets.load_dataset(path, name, streaming=True, **arguments)


def numbered_lines(file: str, faults: DataFaults) -> Iterator[tuple[int, str | None]]:
    """The lines of `file` (.gz or not), numbered from 1, without line ends; None for a line that is not UTF-8."""
    _note_line_ends(file, faults)
    number = 0
    try:
        for batch in stream("text", data_files=[file], split="train").with_format("arrow").iter(batch_size=1000):
            for line in batch.column(0).to_pylist():
                number += 1
                yield number, _without_mark(line, number, file, faults)
        return
    except BROKEN:  # the library drops a whole block without naming the line: continue by hand
        pass
    yield from _by_hand(file, number, faults)


def _by_hand(file: str, done: int, faults: DataFaults) -> Iterator[tuple[int, str | None]]:
    """The lines after the first `done`, one at a time, up to the end of the file or the place where it is damaged."""
    number = 0
    opened = gzip.open if file.endswith(".gz") else open
    try:
        with opened(file, "rt", encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, 1):
                if number <= done:
                    continue
                line = line.removesuffix("\n")
                if is_text(line):
                    yield number, _without_mark(line, number, file, faults)
                else:
                    faults.bad("invalid UTF-8", f"{file}:{number}")
                    yield number, None
    except EOFError:
        faults.bad("truncated gzip", f"{file}:{number + 1}", "the rest of the file is missing")
    except (OSError, zlib.error) as error:
        faults.bad("damaged gzip" if file.endswith(".gz") else "unreadable", f"{file}:{number + 1}", first_line(error))


def _note_line_ends(file: str, faults: DataFaults) -> None:
    """Report Windows line ends: every reader turns them into \\n, so that they would go unnoticed."""
    try:
        with (gzip.open if file.endswith(".gz") else open)(file, "rb") as opened:
            head = opened.read(HEAD)
    except BROKEN:
        return  # reported when the lines are read
    if b"\r\n" in head:
        faults.note("Windows line ends (CRLF), read as LF", file)


def _without_mark(line: str, number: int, file: str, faults: DataFaults) -> str:
    if number == 1 and line.startswith("\ufeff"):
        faults.note("byte order mark, left out", f"{file}:1")
        return line[1:]
    return line


def is_text(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8: a lone surrogate cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, or else the error's type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
