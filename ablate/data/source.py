"""Documents from files and from the Hub; bad ones are reported by file and line."""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ablate.data.data_faults import DataFaults
from ablate.data.documents import Reading, documents, refuse_column, text_of
from ablate.data.file_hashes import Hashes, hash_files
from ablate.data.local_files import LocalFiles, names_in
from ablate.data.readers import first_line
from ablate.errors import UserError, nearest
from ablate.ranges import COUNT, Ranges, check

SPLITS = ("paragraph", "line", "document")
PATTERN = re.compile(r"[*?\[\]]|::")  # what the `datasets` library takes for a pattern or a chain of addresses


class Source(Protocol):
    """Where documents come from."""

    def fingerprint(self, hashes: Hashes = hash_files) -> dict[str, Any]:
        """What determines the documents, as JSON: a corpus is prepared again when it changes.

        Each file is represented by the hash of its content, which `hashes` gives (and remembers), never by its times.
        """
        ...

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """The documents in a fixed order; bad ones are reported to `faults`."""
        ...


class Local:
    """Local files: .txt; JSON lines as .jsonl, .ndjson, .json; each also compressed; .parquet, .arrow.

    A .json file may also be one array of objects.

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
        self._how = Reading(text, split_txt)
        self._found = LocalFiles(names_in(files) if files else [])
        self.files = self._found.files

    def fingerprint(self, hashes: Hashes = hash_files) -> dict[str, Any]:
        """Names and hashes of the files in their order, and how they are read; not where they are."""
        names = (Path(file).name for file in self.files)
        files = [list(pair) for pair in zip(names, hashes(self.files), strict=True)]
        return {"source": "local", "files": files, "text": self._how.text, "split_txt": self._how.split_txt}

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """The documents file by file, in the given order; the files of one glob sorted by name."""
        self._found.note(faults)
        for file in self.files:
            count, skipped = 0, faults.skipped.total()
            for text in documents(file, self._how, faults):
                yield text
                count += 1
            if not count and faults.skipped.total() == skipped:
                faults.bad("empty file", file)


class Hub:
    """A dataset on the Hugging Face Hub (or any other that `datasets` can load), streamed while preparing.

    path, subset, split, revision, files: as for `datasets.load_dataset` (files are its data_files; one that has the
    name of a file on this machine is that file, whatever characters are in it).
    text: the column with the text. limit: documents to take; None takes all.
    """

    ranges: ClassVar[Ranges] = {"limit": COUNT}

    def __init__(
        self,
        path: str,
        subset: str | None,
        split: str,
        revision: str | None,
        files: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None,
        text: str,
        limit: int | None,
    ):
        check(Hub, "data", limit=limit)
        for given in files.values() if isinstance(files, Mapping) else [files] if files else []:
            names_in(given)
        self.path = path
        self.arguments: dict[str, Any] = {"name": subset, "split": split, "revision": revision, "data_files": files}
        self.text, self.limit = text, None if limit is None else int(limit)  # 1e3 is a whole number too

    def fingerprint(self, hashes: Hashes = hash_files) -> dict[str, Any]:
        """The arguments, and the hashes of those files that are local; pin a revision if a dataset may change."""
        request = {"source": "hub", "path": self.path, **self.arguments, "text": self.text, "limit": self.limit}
        names, files = self._on_disk()
        on_disk = [list(pair) for pair in zip(names, hashes(files), strict=True)]
        return {**request, "on_disk": on_disk} if on_disk else request

    @property
    def _files(self) -> list[str]:
        files: list[str] = []
        _changed(self.arguments["data_files"], files.append)
        return files

    def _local(self, name: str) -> str | None:
        """The file or folder on this machine that has this very name, taken from the folder `path` if that is one."""
        places = (os.path.join(self.path, name), name) if os.path.isdir(self.path) else (name,)
        return next((place for place in places if os.path.exists(place)), None)

    def _on_disk(self) -> tuple[list[str], list[str]]:
        """Names and paths of the local files, in a fixed order; a file in a folder by its path in there."""
        names: list[str] = []
        files: list[str] = []
        for given in (self.path, *self._files):
            found = [place] if (place := self._local(given)) else [] if "://" in given else sorted(glob.glob(given))
            for path in found:
                inside = sorted(Path(path).rglob("*")) if os.path.isdir(path) else [Path(path)]
                for file in filter(Path.is_file, inside):
                    names.append(os.path.relpath(file, path) if str(file) != path else file.name)
                    files.append(str(file))
        return names, files

    def documents(self, faults: DataFaults) -> Iterator[str]:
        """The documents shard by shard, up to `limit`; a shard that cannot be read counts as one bad document."""
        with tempfile.TemporaryDirectory() as folder:
            yield from itertools.islice(self._all(folder, faults), self.limit)

    def _all(self, folder: str, faults: DataFaults) -> Iterator[str]:
        label = "/".join(str(part) for part in (self.path, self.arguments["name"], self.arguments["split"]) if part)
        try:
            rows = self._stream(folder)
            columns, shards = rows.column_names, rows.num_shards
        except UserError:
            raise
        except Exception as error:  # no network, dataset or split: each library below has its own type
            raise UserError(f"{label}: cannot be loaded ({first_line(error)}){_offline()}") from None
        if columns is not None and self.text not in columns:
            refuse_column(self.text, columns, label)
        for index in range(shards):
            shard = f"{label}: shard {index + 1} of {shards}"
            yield from self._shard(rows.shard(shards, index) if shards > 1 else rows, shard, faults)

    def _stream(self, folder: str) -> Any:
        """The dataset as a stream, which leaves no copy on disk.

        Local names that the library would take for patterns are reached through links in `folder`.
        """
        import datasets

        def linked(name: str) -> str:
            place = self._local(name)
            if not place or not PATTERN.search(place):
                return name
            link = os.path.join(folder, str(len(os.listdir(folder))), PATTERN.sub("_", os.path.basename(place)))
            os.makedirs(os.path.dirname(link))
            os.symlink(os.path.abspath(place), link)
            return link

        if os.path.isdir(self.path):
            self._check_folder()
        files = _changed(self.arguments["data_files"], linked)
        return datasets.load_dataset(self.path, **{**self.arguments, "data_files": files}, streaming=True)

    def _check_folder(self) -> None:
        """Raise UserError for names by which the library would read other files, or leave some out."""
        if found := PATTERN.search(os.path.realpath(self.path)):
            raise UserError(f"data.path={self.path}: has {found[0]} in its name, a pattern to the library; rename it")
        for file in Path(self.path).rglob("*::*"):
            raise UserError(f"data.path={self.path}: {file.name!r} has :: in its name, so the library would skip it")

    def _shard(self, rows: Any, label: str, faults: DataFaults) -> Iterator[str]:
        """The documents of a shard; with data.on_error=skip only if it can be read to its end.

        Until then they wait in a temporary file: what a damaged shard gives before its checksum may be garbage.
        """
        texts = self._texts(rows, label, faults)
        if faults.on_error == "fail":
            yield from texts
            return
        with tempfile.TemporaryFile("w+") as waiting:
            for text in texts:
                if text is None:
                    return
                waiting.write(json.dumps(text) + "\n")
            waiting.seek(0)
            yield from map(json.loads, waiting)

    def _texts(self, rows: Any, label: str, faults: DataFaults) -> Iterator[Any]:
        """The documents of a shard, and None where it cannot be read further."""
        number = 0
        try:
            for row in rows:
                number += 1
                yield from text_of(row, self.text, f"{label}, row {number}", faults)
        except UserError:
            raise
        except Exception as error:  # whatever the reader of that format raises
            faults.bad("unreadable", f"{label}, after row {number}", first_line(error))
            yield None


def _changed(files: Any, change: Callable[[str], Any]) -> Any:
    """Names of files, one, a list, or lists by split, with each of them changed."""
    if isinstance(files, Mapping):
        return {split: _changed(part, change) for split, part in files.items()}
    if isinstance(files, str) or files is None:
        return change(files) if files else None
    return [change(file) for file in files]


def _offline() -> str:
    return (
        "; HF_HUB_OFFLINE is set"
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() not in ("", "0", "false", "no")
        else ""
    )
