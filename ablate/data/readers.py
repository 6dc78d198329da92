"""The numbered lines of a text file, and the values of a table's column; what cannot be used is reported by place."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from ablate.data.compressed import BLOCK, Damage, Damaged, Decompressed, compression_of, find_damage
from ablate.data.data_faults import DataFaults

LONGEST = 1 << 28  # characters of a line or document; what is longer is hardly text, or has to be divided first
ROWS = 1000  # of a table, read at once
LINE_ENDS = {
    "\r\n": "Windows line ends (CRLF), read as LF",
    "\r": "old Macintosh line ends (CR), read as LF",
}


def numbered_lines(file: str, faults: DataFaults) -> Iterator[tuple[int, str | None]]:
    """The lines of `file`, numbered from 1, without their ends: LF, CRLF or CR, and no other character.

    None stands for a line that cannot be used, and for all that is left out at a damaged file's end. Nothing is read of
    a damaged member of a compressed file, since its checksum vouches for none of it, nor of the members behind it. To
    know that, such files are read twice with data.on_error=skip; with "fail" the error refuses what was read before it.
    """
    number = 0
    try:
        damage = find_damage(file) if compression_of(file) and faults.on_error == "skip" else None
        with _opened(file, damage) as lines:
            while (line := lines.readline(LONGEST + 1)) and (line.endswith("\n") or not damage):
                number += 1
                yield number, _usable(line, number, lines, file, faults)
            _note_line_ends(lines, file, faults)
            if isinstance(raw := lines.buffer.raw, Decompressed) and not raw.is_checked:  # type: ignore[attr-defined]
                faults.note("compressed without a checksum, so that damage may go unnoticed", file)
    except Damaged as error:
        damage = Damage(error.kind, str(error), 0)
    except OSError as error:
        damage = Damage("unreadable", first_line(error), 0)
    if damage:
        whole = f"; its first {damage.members} members are read" if damage.members else ""
        faults.bad(damage.kind, f"{file}:{number + 1}", damage.reason + whole)
        yield number + 1, None


class NoColumn(Exception):
    """A table has not the column that is asked for, but `columns`."""

    def __init__(self, columns: list[str]):
        self.columns = columns


def column(file: str, kind: str, name: str) -> Iterator[Any]:
    """The values of a column of a parquet or arrow file; raises `NoColumn`, and pyarrow's errors for a damaged file."""
    with open(file, "rb") as opened:
        for batch in _parquet(opened, name) if kind == "parquet" else _arrow(opened, name):
            yield from batch.column(name).to_pylist()


def _parquet(opened: Any, name: str) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(opened)
    _check_column(name, table.schema_arrow.names)
    yield from table.iter_batches(batch_size=ROWS, columns=[name])


def _arrow(opened: Any, name: str) -> Iterator[Any]:
    """Batches of a stream, which `datasets` writes, or of a file with an index."""
    import pyarrow
    from pyarrow import ipc

    try:
        batches = ipc.open_stream(opened)
    except pyarrow.ArrowInvalid:
        opened.seek(0)
        indexed = ipc.open_file(opened)
        _check_column(name, indexed.schema.names)
        batches = map(indexed.get_batch, range(indexed.num_record_batches))
    else:
        _check_column(name, batches.schema.names)
    for batch in batches:
        batch.validate(full=True)
        yield batch


def _check_column(name: str, columns: list[str]) -> None:
    if name not in columns:
        raise NoColumn(columns)


def _opened(file: str, damage: Damage | None) -> io.TextIOWrapper:
    """A text file, opened under its very name; of a damaged one the whole members."""
    raw: io.RawIOBase
    if compression_of(file):
        raw = Decompressed(file, damage.members if damage else None)
    else:
        raw = open(file, "rb", buffering=0)  # noqa: SIM115 (closed with the wrapper)
    return io.TextIOWrapper(io.BufferedReader(raw, BLOCK), encoding="utf-8", errors="surrogateescape")


def _usable(line: str, number: int, lines: io.TextIOWrapper, file: str, faults: DataFaults) -> str | None:
    """A line without its end, and without a byte order mark; None if it is too long or not UTF-8."""
    where = f"{file}:{number}"
    if len(line) > LONGEST and not line.endswith("\n"):
        while line and not line.endswith("\n"):
            line = lines.readline(BLOCK)
        faults.bad("line too long", where, f"more than {LONGEST:,} characters")
        return None
    line = line.removesuffix("\n")
    if not is_text(line):
        faults.bad("invalid UTF-8", where)
        return None
    if number == 1 and line.startswith("\ufeff"):
        faults.note("byte order mark, left out", where)
        return line[1:]
    return line


def _note_line_ends(lines: io.TextIOWrapper, file: str, faults: DataFaults) -> None:
    """Report line ends other than LF, which would go unnoticed otherwise."""
    found = lines.newlines or ()
    for end, kind in LINE_ENDS.items():
        if end in ([found] if isinstance(found, str) else found):
            faults.note(kind, file)


def is_text(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8: a lone surrogate cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, or else the error's type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
