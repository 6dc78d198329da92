"""Documents from files and from the Hub, read by the `datasets` library; bad ones are reported by file and line."""

from __future__ import annotations

import difflib
import glob
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ablate.data.data_faults import DataFaults
from ablate.data.readers import first_line, is_text, numbered_lines, stream
from ablate.errors import UserError, nearest

SPLITS = ("paragraph", "line", "document")


class Source(Protocol):
    """Where documents come from."""

    def fingerprint(self) -> dict[str, Any]:
        """What determines the documents, as JSON: a corpus is prepared again when it changes."""
        ...

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """The documents in a fixed order; bad ones are reported to `faults`."""
        ...


def _stamps(files: Sequence[str]) -> list[list[Any]]:
    """Name, size and modification time of each file."""
    stats = [(Path(file).name, os.stat(file)) for file in files]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


class Local:
    """Local files: .txt, .jsonl, .parquet, .arrow, the first two also with .gz.

    files: paths, folders or globs, one or a list.
    text: the key or column with the text.
    split_txt: what one document of a .txt file is: a "paragraph" (blank lines between), a "line", or the "document".
    Raises UserError if no file matches, or for a file of another type.
    """

    def __init__(self, files: str | Sequence[str] | None, text: str = "text", split_txt: str = "paragraph"):
        if split_txt not in SPLITS:
            raise UserError(
                f"data.split_txt={split_txt}: must be one of {', '.join(SPLITS)}{nearest(str(split_txt), SPLITS)}"
            )
        self.text, self.split_txt = text, split_txt
        self.files = _expand([files] if isinstance(files, str) else list(files or []))

    def fingerprint(self) -> dict[str, Any]:
        """Names, sizes and modification times of the files, and how they are read."""
        return {"source": "local", "files": _stamps(self.files), "text": self.text, "split_txt": self.split_txt}

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """The documents file by file, in the given order; the files of one glob sorted by name."""
        for file in self.files:
            count, skipped = 0, faults.skipped.total()
            for text in _reader(file)(self, file, faults) if os.path.getsize(file) else ():
                yield text
                count += 1
            if not count and faults.skipped.total() == skipped:
                faults.bad("empty file", file)

    def _from_txt(self, file: str, faults: DataFaults) -> Iterator[str]:
        block: list[str] = []
        start, spoiled = 1, False
        for number, line in numbered_lines(file, faults):
            if line is None:  # not UTF-8: the whole document is left out
                spoiled = self.split_txt != "line"
                continue
            ends = self.split_txt == "line" or (self.split_txt == "paragraph" and not line.strip())
            if not block:
                start = number
            if line.strip() or self.split_txt == "document":
                block.append(line)
            if ends:
                if block and not spoiled:
                    yield from _usable("\n".join(block), f"{file}:{start}", faults)
                block, spoiled = [], False
        if (block or self.split_txt == "document") and not spoiled:
            yield from _usable("\n".join(block), f"{file}:{start}", faults)

    def _from_jsonl(self, file: str, faults: DataFaults) -> Iterator[str]:
        for number, line in numbered_lines(file, faults):
            where = f"{file}:{number}"
            if line is None:
                continue
            if not line.strip():
                faults.note("blank line", where)
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                at = (
                    f"{error.msg} at character {error.pos + 1}"
                    if isinstance(error, json.JSONDecodeError)
                    else first_line(error)
                )
                faults.bad("broken JSON", where, at)
                continue
            if not isinstance(row, dict):
                faults.bad("not a JSON object", where, f"a {type(row).__name__}")
                continue
            yield from _text_of(row, self.text, where, faults)

    def _from_table(self, file: str, faults: DataFaults) -> Iterator[str]:
        kind = "parquet" if file.endswith(".parquet") else "arrow"
        try:
            rows = stream(kind, data_files=[file], split="train")
            if rows.column_names is not None and self.text not in rows.column_names:
                _refuse_column(self.text, rows.column_names, file)
            rows = rows.select_columns([self.text])
            number = 0
            for batch in rows.with_format("arrow").iter(batch_size=1000):
                for text in batch.column(0).to_pylist():
                    number += 1
                    yield from _text_of({self.text: text}, self.text, f"{file}: row {number}", faults)
        except UserError:
            raise
        except Exception as error:  # pyarrow and datasets raise many types for a truncated file
            faults.bad(f"unreadable {kind} file", file, first_line(error))


class Hub:
    """A dataset on the Hugging Face Hub (or any other that `datasets` can load), streamed while preparing.

    path, subset, split, revision, files: as for `datasets.load_dataset` (files are its data_files).
    text: the column with the text. limit: documents to take; None takes all.
    """

    def __init__(
        self,
        path: str,
        subset: str | None,
        split: str,
        revision: str | None,
        files: str | Sequence[str] | None,
        text: str,
        limit: int | None,
    ):
        self.path = path
        self.arguments: dict[str, Any] = {"name": subset, "split": split, "revision": revision, "data_files": files}
        self.text, self.limit = text, limit

    def fingerprint(self) -> dict[str, Any]:
        """The arguments, and the stamps of those files that are local; pin a revision if a dataset may change."""
        request = {"source": "hub", "path": self.path, **self.arguments, "text": self.text, "limit": self.limit}
        return {**request, "on_disk": on_disk} if (on_disk := _stamps(self._on_disk())) else request

    def _on_disk(self) -> list[str]:
        files = self.arguments["data_files"] or []
        names = [self.path, *([files] if isinstance(files, str) else files)]
        local = [file for name in names for file in sorted(glob.glob(name)) if "://" not in name]
        inside = [str(file) for folder in local if os.path.isdir(folder) for file in sorted(Path(folder).rglob("*"))]
        return [file for file in (*local, *inside) if os.path.isfile(file)]

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """The documents shard by shard, up to `limit`; a shard that cannot be read counts as one bad document."""
        label = "/".join(str(part) for part in (self.path, self.arguments["name"], self.arguments["split"]) if part)
        try:
            rows = stream(self.path, **self.arguments)
            columns, shards = rows.column_names, rows.num_shards
        except Exception as error:  # no network, dataset or split: each library below has its own type
            raise UserError(f"{label}: cannot be loaded ({first_line(error)}){_offline()}") from None
        if columns is not None and self.text not in columns:
            _refuse_column(self.text, columns, label)
        count = 0
        for index in range(shards):
            shard = f"{label}: shard {index + 1} of {shards}"
            for text in self._shard(rows.shard(shards, index) if shards > 1 else rows, shard, faults):
                yield text
                count += 1
                if count == self.limit:
                    return

    def _shard(self, rows: Any, label: str, faults: DataFaults) -> Iterator[str]:
        number = 0
        try:
            for row in rows:
                number += 1
                yield from _text_of(row, self.text, f"{label}, row {number}", faults)
        except UserError:
            raise
        except Exception as error:  # whatever the reader of that format raises
            faults.bad("unreadable", f"{label}, after row {number}", first_line(error))


def _expand(patterns: list[str]) -> list[str]:
    """The files that paths, folders and globs match, each once; UserError if there are none."""
    if not patterns:
        raise UserError("data.files is empty: give paths or globs, as in data.files='[my/*.jsonl.gz]'")
    files: dict[str, None] = {}
    for pattern in map(str, patterns):
        pattern = os.path.expanduser(pattern)
        if os.path.isdir(pattern):
            inside = sorted(str(path) for path in Path(pattern).rglob("*") if path.is_file())
            found = [file for file in inside if _ending(file)]
            if not found:
                raise UserError(f"data.files: no {', '.join(ENDINGS)} file in {pattern}")
        else:
            found = sorted(glob.glob(pattern, recursive=True)) if not os.path.isfile(pattern) else [pattern]
            if not found:
                raise UserError(f"data.files: no file matches {pattern}{_neighbour(pattern)}")
        files.update(dict.fromkeys(found))
    for file in files:
        _reader(file)
    return list(files)


def _neighbour(pattern: str) -> str:
    folder = os.path.dirname(pattern) or "."
    if not os.path.isdir(folder):
        return f" (there is no folder {folder})"
    near = difflib.get_close_matches(os.path.basename(pattern), os.listdir(folder), n=1, cutoff=0.5)
    return f"; did you mean {os.path.join(folder, near[0])!r}?" if near else ""


ENDINGS: dict[str, Callable[[Local, str, DataFaults], Iterator[str]]] = {
    ".txt": Local._from_txt,
    ".txt.gz": Local._from_txt,
    ".jsonl": Local._from_jsonl,
    ".jsonl.gz": Local._from_jsonl,
    ".parquet": Local._from_table,
    ".arrow": Local._from_table,
}


def _ending(file: str) -> str | None:
    return next((ending for ending in ENDINGS if file.endswith(ending)), None)


def _reader(file: str) -> Callable[[Local, str, DataFaults], Iterator[str]]:
    ending = _ending(file)
    if ending is None:
        raise UserError(f"data.files: {file}: must be one of {', '.join(ENDINGS)}")
    return ENDINGS[ending]


def _text_of(row: dict[str, Any], key: str, where: str, faults: DataFaults) -> Iterator[str]:
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
        yield text


def _refuse_column(text: str, columns: Sequence[str], where: str) -> None:
    raise UserError(f"data.text={text}: {where} has the columns {', '.join(columns)}{nearest(text, columns)}")


def _offline() -> str:
    return (
        "; HF_HUB_OFFLINE is set"
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no")
        else ""
    )
