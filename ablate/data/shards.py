"""Tokens on disk: one integer a token, documents end to end, memory-mapped for reading."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np

from ablate.data.file_hashes import MEMORY, FileHashes, hash_files
from ablate.errors import UserError, disk_error
from ablate.run.files import sha256

SHARD_TOKENS = 1 << 28  # tokens after which a new file is begun
LARGE = 1 << 28  # bytes from which a file's hash is remembered

Put = Callable[[io.BufferedRandom, memoryview], object]  # bytes into a file, or past those that are in it


class Writer:
    """Writes the documents of one part (train or validation) into shards; no document spans two shards.

    What a killed process has written can be kept: `keep` each block of it in its order, then `add` the others, which
    take the place of what is behind.
    """

    def __init__(self, folder: Path, part: str, dtype: np.dtype, shard_tokens: int = SHARD_TOKENS):
        self.folder, self.part, self.dtype, self.shard_tokens = folder, part, dtype, shard_tokens
        self.shards: list[dict[str, Any]] = []
        self.lengths = array("q")  # tokens of each document
        self._open: io.BufferedRandom | None = None
        self._written = 0

    def add(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        """Append documents: their ids end to end, (sum of lengths,), each with its end-of-sequence; lengths: int64."""
        self._take(ids, lengths, self._append)

    def keep(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        """The same for documents that are in their place already: nothing is written."""
        self._take(ids, lengths, self._pass)

    def flush(self) -> None:
        """Hand to the system what was added, so that it is there when this process is killed."""
        if self._open is not None:
            self._open.flush()

    def close(self) -> dict[str, Any]:
        """Finish the files; returns the manifest's entry for this part."""
        self._close_shard()
        name = f"{self.part}-offsets.npy"
        # where each document begins, and where the last one ends, (documents + 1,)
        np.save(self.folder / name, np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64))
        return {
            "tokens": sum(self.lengths),
            "documents": len(self.lengths),
            "shards": self.shards,
            "offsets": entry(self.folder / name),
        }

    def _take(self, ids: np.ndarray, lengths: np.ndarray, put: Put) -> None:
        ends, data = np.cumsum(lengths), ids.astype(self.dtype, copy=False).view(np.uint8).data
        document = token = 0
        while document < len(lengths):
            opened = self._open_shard()
            # a shard ends with the first document by which it is full
            after = int(np.searchsorted(ends, token + self.shard_tokens - self._written)) + 1
            end = int(ends[min(after, len(ends)) - 1])
            part = data[token * self.dtype.itemsize : end * self.dtype.itemsize]
            put(opened, part)
            self._hash.update(part)
            self._written += end - token
            document, token = after, end
            if self._written >= self.shard_tokens:
                self._close_shard()
        self.lengths.frombytes(lengths.astype(np.int64, copy=False).tobytes())

    @staticmethod
    def _append(opened: io.BufferedRandom, data: memoryview) -> None:
        opened.write(data)

    @staticmethod
    def _pass(opened: io.BufferedRandom, data: memoryview) -> None:
        opened.seek(len(data), os.SEEK_CUR)

    def _open_shard(self) -> io.BufferedRandom:
        if self._open is None:
            file = self.folder / f"{self.part}-{len(self.shards):05d}.bin"
            self._open = open(file, "r+b" if file.exists() else "x+b")  # noqa: SIM115 (closed by `_close_shard`)
            self._hash, self._written = hashlib.sha256(), 0
        return self._open

    def _close_shard(self) -> None:
        if self._open is None:
            return
        self._open.truncate()  # behind what a killed process has left
        self._open.flush()
        os.fsync(self._open.fileno())
        self._open.close()
        self.shards.append(
            {"file": Path(self._open.name).name, "sha256": self._hash.hexdigest(), "tokens": self._written}
        )
        self._open = None


def shard_files(folder: Path, part: str) -> list[Path]:
    """The files of a part's tokens, in their order."""
    return sorted(folder.glob(f"{part}-[0-9]*.bin"))


def read_shards(folder: Path, part: str, sizes: Iterable[int]) -> Iterator[bytes]:
    """The bytes of a part's shards end to end, in blocks of these sizes; fewer where the files end before."""
    with contextlib.ExitStack() as stack:
        opened = (stack.enter_context(open(file, "rb")) for file in shard_files(folder, part))
        shard = next(opened, None)
        for size in sizes:
            data = b""
            while shard and len(data) < size:
                data += (more := shard.read(size - len(data)))
                if not more:
                    stack.close()  # one file is open at a time
                    shard = next(opened, None)
            yield data


class Reader:
    """The tokens of one part, mapped into memory.

    Windows of a length are cut side by side from the stream of documents; a remainder at a shard's end is left out.
    """

    def __init__(self, folder: Path, part: dict[str, Any], dtype: np.dtype):
        self.n_tokens: int = part["tokens"]
        self.n_documents: int = part["documents"]
        self._shards = [np.memmap(folder / shard["file"], dtype, mode="r").view(np.ndarray) for shard in part["shards"]]
        self._dtype = dtype
        self._cut: dict[int, tuple[list[np.ndarray], np.ndarray]] = {}

    def n_windows(self, length: int) -> int:
        """The number of windows of `length` tokens."""
        return int(self._windows_of(length)[1][-1])

    def windows(self, indices: np.ndarray, length: int) -> np.ndarray:
        """The windows with these numbers, (len(indices), length), in the shards' dtype."""
        tables, ends = self._windows_of(length)
        if len(tables) == 1:
            windows: np.ndarray = tables[0][indices]
            return windows
        shard_of = np.searchsorted(ends, indices, side="right")
        windows = np.empty((len(indices), length), self._dtype)
        for shard in np.unique(shard_of):
            here = shard_of == shard
            windows[here] = tables[shard][indices[here] - (ends[shard - 1] if shard else 0)]
        return windows

    def _windows_of(self, length: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Each shard as a table (windows, length), without copying, and the number of windows up to the end of each."""
        if length not in self._cut:
            tables = [shard[: len(shard) // length * length].reshape(-1, length) for shard in self._shards]
            self._cut[length] = tables, np.cumsum([len(table) for table in tables])
        return self._cut[length]


def entry(file: Path) -> dict[str, Any]:
    """A file's name and hash, for a manifest."""
    return {"file": file.name, "sha256": sha256(file)}


def entries(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of all files that a manifest describes."""
    parts = [manifest["train"], manifest["validation"]]
    return [
        manifest["tokenizer"],
        manifest["token_bytes"],
        manifest["token_counts"],
        *(part["offsets"] for part in parts),
        *(s for part in parts for s in part["shards"]),
    ]


def again(folder: Path) -> str:
    """What to do about a corpus that is not as it was prepared, as the end of a message."""
    return f"delete {folder} to prepare it again"


_verified: set[tuple[str, str, int, int]] = set()  # (path, sha256, size, time) of files that this process has verified


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise UserError if a file of a corpus is missing or differs from its manifest; each is hashed once a process.

    The hash of a large one is remembered beside it, so that the next process need not read it.
    """
    with FileHashes(folder / MEMORY) as remembered:
        for item in entries(manifest):
            file = folder / item["file"]
            try:
                stat = file.lstat()
            except OSError as error:
                raise UserError(disk_error(error, file) or f"{file}: is missing; {again(folder)}") from None
            if not S_ISREG(stat.st_mode):
                raise UserError(f"{file}: is not a file of its own (a link or a folder); {again(folder)}")
            key = (str(file), item["sha256"], stat.st_size, stat.st_mtime_ns)
            if key in _verified:
                continue
            hashes = remembered if stat.st_size >= LARGE else hash_files
            if hashes([str(file)]) != [item["sha256"]]:
                raise UserError(
                    f"{file}: changed after it was prepared (its hash differs from the manifest); {again(folder)}"
                )
            _verified.add(key)


def check_counts(folder: Path, manifest: dict[str, Any], dtype: np.dtype) -> None:
    """Raise UserError if the files of a corpus do not have the tokens and documents that its manifest counts."""
    for part in (manifest["train"], manifest["validation"]):
        sizes = {shard["file"]: shard["tokens"] * dtype.itemsize for shard in part["shards"]}
        wrong = [file for file, size in sizes.items() if (folder / file).stat().st_size != size]
        offsets = part["offsets"]["file"]
        if sum(shard["tokens"] for shard in part["shards"]) != part["tokens"] or not _fit(folder / offsets, part):
            wrong.append(offsets)
        if wrong:
            raise UserError(f"{folder / wrong[0]}: does not have the tokens that the manifest counts; {again(folder)}")


def _fit(file: Path, part: dict[str, Any]) -> bool:
    """Whether a part's offsets are one more than its documents, and end where its tokens end."""
    try:
        offsets = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError:
        return False
    is_list = offsets.shape == (part["documents"] + 1,) and offsets.dtype == np.int64
    return bool(is_list and offsets[0] == 0 and offsets[-1] == part["tokens"])
