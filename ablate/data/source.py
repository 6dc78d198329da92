"""Where text comes from: streams of documents."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ablate.data.builtin import Builtin
from ablate.data.problems import Problems
from ablate.errors import UserError, nearest

__all__ = ["Builtin", "Hub", "Local"]

KINDS = (".txt", ".jsonl", ".jsonl.gz", ".parquet", ".arrow")


class Local:
    """Files or globs of .txt (one document each), .jsonl, .jsonl.gz, .parquet and .arrow (one a line or row).

    text: the field or column that holds a document.
    """

    def __init__(self, files: Sequence[str] | str, text: str):
        self.patterns = [files] if isinstance(files, str) else list(files or ())
        self.text = text

    def paths(self) -> list[Path]:
        """The files, sorted, each once; raises UserError for a pattern without a file or a kind that is not read."""
        if not self.patterns:
            raise UserError("data.files: name files or globs, e.g. data.files='[my/*.jsonl.gz]'")
        found: dict[Path, None] = {}
        for pattern in self.patterns:
            hits = sorted(Path(hit) for hit in glob.glob(pattern, recursive=True))
            if not hits:
                around = Path(pattern).parent
                raise UserError(f"data.files: no file {pattern}{nearest(Path(pattern).name, [p.name for p in around.glob('*')])}")
            for hit in hits:
                if not hit.name.endswith(KINDS):
                    raise UserError(f"{hit}: not one of {', '.join(KINDS)}")
                found[hit] = None
        return list(found)

    def fingerprint(self) -> dict[str, Any]:
        """What decides the text: each file's content, by sha256."""
        return {"kind": "local", "text": self.text, "files": [[path.name, _sha256(path)] for path in self.paths()]}

    def documents(self, problems: Problems) -> Iterator[str]:
        for path in self.paths():
            read = _read_rows if path.name.endswith((".parquet", ".arrow")) else _read_lines
            empty = True
            for where, value in read(path, self.text, problems):
                empty = False
                if document := _usable(value, where, problems):
                    yield document
            if empty and not path.stat().st_size:
                problems.bad("empty file", str(path))


class Hub:
    """A dataset of the Hugging Face Hub, streamed while preparing (`datasets`); or local files in its layout.

    limit: how many documents to take, None for all. files: data files in place of the Hub's.
    """

    def __init__(self, path: str, subset: str | None, split: str, text: str, limit: int | None, files: Any = None):
        self.path, self.subset, self.split, self.text, self.limit, self.files = path, subset, split, text, limit, files

    def fingerprint(self) -> dict[str, Any]:
        return {
            "kind": "hub", "path": self.path, "subset": self.subset, "split": self.split, "text": self.text,
            "limit": self.limit, "files": self.files,
        }  # fmt: skip

    def documents(self, problems: Problems) -> Iterator[str]:
        import datasets

        try:
            rows = datasets.load_dataset(self.path, self.subset, split=self.split, data_files=self.files, streaming=True)
            for number, row in enumerate(rows):
                if number == self.limit:
                    return
                if document := _usable(row.get(self.text), f"{self.path}/{self.split}:{number + 1}", problems):
                    yield document
        except UserError:
            raise
        except Exception as error:  # the Hub's many errors, in one line
            raise UserError(f"data: {self.path} cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})") from None


def _usable(value: Any, where: str, problems: Problems) -> str | None:
    """The document, or None after its fault was refused or counted."""
    if value is None:
        problems.bad("null or missing text", where)
    elif not isinstance(value, str):
        problems.bad("text is not a string", where, type(value).__name__)
    elif not value.strip():
        problems.bad("empty document", where)
    else:
        return value
    return None


def _read_lines(path: Path, field: str, problems: Problems) -> Iterator[tuple[str, Any]]:
    """(place, value) for each line of a .jsonl file, or for the whole of a .txt file."""
    opened: IO[bytes] = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as lines:
        if path.suffix == ".txt":
            text = _decode(lines.read(), str(path), problems)
            if text is not None:
                yield str(path), text
            return
        number = 0
        try:
            for number, line in enumerate(lines, start=1):
                where = f"{path}:{number}"
                text = _decode(line, where, problems)
                if text is None or not text.strip():
                    continue
                try:
                    record = json.loads(text)
                except json.JSONDecodeError as error:
                    problems.bad("broken JSON", where, error.msg)
                    continue
                yield where, record.get(field) if isinstance(record, dict) else None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            problems.bad("truncated or damaged gzip", f"{path}:{number + 1}", str(error).splitlines()[0])


def _decode(line: bytes, where: str, problems: Problems) -> str | None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.bad("invalid UTF-8", where, f"byte {error.start}")
        return None
    if text.startswith("\ufeff"):
        problems.note("byte order mark", where)
        text = text[1:]
    return text.replace("\r\n", "\n")


def _read_rows(path: Path, column: str, problems: Problems) -> Iterator[tuple[str, Any]]:
    """(place, value) for each row of a .parquet or .arrow file."""
    import datasets

    try:
        if path.suffix == ".parquet":
            table = datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
        else:
            table = datasets.Dataset.from_file(str(path))
    except Exception as error:  # pyarrow's and datasets' errors differ by version
        problems.bad("unreadable file", str(path), f"{type(error).__name__}: {str(error).splitlines()[0]}")
        return
    if column not in table.column_names:
        raise UserError(f"{path}: no column {column!r}{nearest(column, table.column_names)}")
    for number, value in enumerate(table[column], start=1):
        yield f"{path}:{number}", value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
