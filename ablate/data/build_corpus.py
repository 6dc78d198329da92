"""How a corpus is made: documents -> two parts -> a tokenizer -> shards and a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ablate.config.instantiation import fill
from ablate.data.corpus import MANIFEST, Corpus
from ablate.data.corpus_request import CorpusRequest, corpus_request
from ablate.data.data_faults import Problems
from ablate.data.shards import Writer, entries, entry
from ablate.errors import UserError
from ablate.run.files import atomic_write
from ablate.run.lock import held_in_turn

BATCH = 1 << 21  # characters that are encoded at once
EVERY = 2.0  # seconds between two lines of progress
PARTS = ("train", "validation")

Progress = Callable[[str], None]


def prepare(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> Corpus:
    """The corpus that `cfg` asks for, prepared first where it is not there.

    Written beside its place and renamed at the end: a process that dies leaves nothing that is taken for whole. One
    process prepares, others wait for it. `progress` is told what happens, a line now and then.
    """
    asked = corpus_request(cfg)
    folder = asked.folder
    if not (folder / MANIFEST).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"{folder.name}: another process prepares it; waiting"
        with held_in_turn(folder.parent / f".{folder.name}.lock", waiting=lambda: progress(waiting)):
            if not (folder / MANIFEST).exists():
                _make(asked, folder, progress)
    return Corpus(folder)


def check(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> Problems:
    """Read every document of `cfg.data` and name all that is wrong, whatever `data.on_error` says."""
    ticker = Ticker(progress, cfg["data"]["name"])
    problems = Problems("skip", examples=None)
    documents = 0
    for documents, _ in enumerate(fill(cfg, "data.source").documents(problems), 1):
        ticker.maybe(f"read {documents:,} documents")
    ticker.say(f"{documents:,} documents can be used")
    return problems


def _make(asked: CorpusRequest, folder: Path, progress: Progress) -> None:
    if folder.exists():
        raise UserError(f"{folder}: has no {MANIFEST}, so that nothing says what it holds; move it away")
    prefix = f".{folder.name}.tmp"
    for left in folder.parent.glob(f"{prefix}*"):  # of a process that died; this one holds the lock
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder.parent / f"{prefix}{os.getpid()}"
    temporary.mkdir()
    try:
        build(asked, temporary, progress)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Spool:
    """Documents of one part, kept on disk until the tokenizer is known."""

    def __init__(self, file: Path):
        self.file, self.lengths = file, array("q")
        self._open = open(file, "xb")

    def add(self, text: bytes) -> None:
        self._open.write(text)
        self.lengths.append(len(text))

    def texts(self) -> Iterator[str]:
        self._open.flush()
        with open(self.file, "rb") as opened:
            for length in self.lengths:
                yield opened.read(length).decode()

    def close(self) -> None:
        self._open.close()
        self.file.unlink()


class Ticker:
    """Says how far something is, every few seconds."""

    def __init__(self, tell: Progress, name: str):
        self._tell, self._name, self._last = tell, name, time.monotonic()

    def say(self, line: str) -> None:
        self._tell(f"{self._name}: {line}")
        self._last = time.monotonic()

    def maybe(self, line: str) -> None:
        if time.monotonic() - self._last >= EVERY:
            self.say(line)


def build(asked: CorpusRequest, folder: Path, progress: Progress) -> None:
    """Prepare what was asked into an empty folder, which is whole when this returns."""
    layout = asked.tokenizer.layout  # what does not fit is refused before hours of reading
    ticker = Ticker(progress, asked.name)
    problems = Problems(asked.on_error)
    spools = {part: Spool(folder / f"{part}.txt") for part in PARTS}
    ticker.say("reading documents")
    duplicates = _divide(asked, problems, spools, ticker)

    ticker.say("making the tokenizer")
    tokenizer = asked.tokenizer.make(spools["train"].texts())
    (folder / tokenizer.file).write_bytes(tokenizer.content())
    token_bytes = np.zeros(layout.vocab_size, np.uint16)
    token_bytes[: tokenizer.size] = tokenizer.bytes_per_piece()
    token_bytes[[layout.pad_id, layout.eos_id]] = 0

    parts, stands_for = {}, 0
    for part in PARTS:
        writer = Writer(folder, part, layout.dtype)
        parts[part], stands_for = _encode(spools[part], writer, tokenizer, layout.eos_id, token_bytes, ticker)
    if not _adds_up(stands_for, parts["validation"]):
        token_bytes[:] = 0
        ticker.say("the pieces of the tokenizer do not add up to the text: there will be no bits per byte")
    np.save(folder / "token_bytes.npy", token_bytes)
    manifest = {
        "name": asked.name,
        "sha256": "",
        "asked": asked.asked,
        "layout": layout.as_dict(),
        **parts,
        "tokenizer": {**entry(folder / tokenizer.file), "pieces": tokenizer.size},
        "token_bytes": entry(folder / "token_bytes.npy"),
        "duplicates": duplicates,
        "problems": problems.as_dict(),
    }
    content = [layout.as_dict(), [[item["file"], item["sha256"]] for item in entries(manifest)]]
    manifest["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    _to_disk(folder)
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1))
    ticker.say(_summary(manifest))


def _divide(asked: CorpusRequest, problems: Problems, spools: dict[str, Spool], ticker: Ticker) -> int:
    """Spool each document once, into the part that the hash of its text says; the number of duplicates left out."""
    seen: set[bytes] = set()
    border = int(asked.validation_share * (1 << 64))
    documents = characters = 0
    for text in asked.source.documents(problems):
        documents += 1
        characters += len(text)
        content = text.encode()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            spools["validation" if int.from_bytes(digest[:8], "big") < border else "train"].add(content)
        if documents % 100 == 0:
            ticker.maybe(f"read {documents:,} documents, {characters / 1e6:,.1f} M characters")
    if not seen:
        found = sum(problems.skipped.values())
        raise UserError(
            f"data={asked.name}: no usable document"
            + (f"; {found} were skipped, first {problems.examples[0]}" if found else "")
        )
    for part, spool in spools.items():
        if not spool.lengths:
            raise UserError(
                f"data={asked.name}: of {len(seen)} documents none fell into the {part} part "
                f"at data.validation_share={asked.validation_share}; give more or shorter documents, or another share"
            )
    return documents - len(seen)


def _adds_up(stands_for: int, part: dict) -> bool:
    """Whether pieces that stand for so many bytes are the text: within 1 %, and a space that is put before each document."""
    return abs(stands_for - part["bytes"]) <= 0.01 * part["bytes"] + part["documents"]


def _encode(
    spool: Spool, writer: Writer, tokenizer, eos_id: int, token_bytes: np.ndarray, ticker: Ticker
) -> tuple[dict, int]:
    """Write a part's documents as tokens, each with its end; the manifest's entry, and the bytes that its pieces stand for."""
    end = np.array([eos_id], np.uint32)
    batch: list[str] = []
    size = done = stands_for = 0

    def flush() -> int:
        documents = tokenizer.encode(batch)
        writer.add([np.concatenate([ids, end]) for ids in documents])
        return sum(int(token_bytes[ids].sum(dtype=np.int64)) for ids in documents)

    for text in spool.texts():
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            stands_for += flush()
            done += len(batch)
            batch, size = [], 0
            ticker.maybe(f"encoded {done:,} of {len(spool.lengths):,} documents of the {writer.part} part")
    if batch:
        stands_for += flush()
    total = sum(spool.lengths)
    spool.close()
    return {**writer.close(), "bytes": total}, stands_for


def _to_disk(folder: Path) -> None:
    """Have the system write what it still holds, so that a manifest never vouches for what a power cut takes."""
    for file in [*folder.iterdir(), folder]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _summary(manifest: dict) -> str:
    train, validation, problems = manifest["train"], manifest["validation"], manifest["problems"]
    line = (
        f"{train['tokens']:,} tokens to train on in {train['documents']:,} documents, "
        f"{validation['tokens']:,} to validate on; {manifest['duplicates']:,} duplicates left out"
    )
    skipped = ", ".join(f"{count} {kind}" for kind, count in problems["skipped"].items())
    return line + (f"; skipped: {skipped}" if skipped else "")
