"""Preparing a corpus: documents -> train and validation part -> a tokenizer -> shards and a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ablate.config.instantiation import fill
from ablate.data.corpus import Corpus
from ablate.data.corpus_request import CorpusRequest, corpus_request
from ablate.data.data_faults import DataFaults
from ablate.data.manifest import MANIFEST, write_manifest
from ablate.data.permutation import permute
from ablate.data.shards import Writer, entry
from ablate.data.tokenizer_backends import MARK, Tokenizer
from ablate.data.vocabulary import Layout
from ablate.errors import UserError, disk_error
from ablate.run.lock import held_in_turn

BATCH = 1 << 21  # characters that are encoded at once
STRETCH = 1 << 14  # bytes of a document that are drawn together when text is sampled
SHUFFLED = 1 << 12  # stretches whose places are computed at once
SAMPLE_SEED = 20210611  # of the text that a tokenizer is trained on; no run's seed
EVERY = 2.0  # seconds between two lines of progress
PARTS = ("train", "validation")

Progress = Callable[[str], None]


def prepare(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> Corpus:
    """The corpus that `cfg` describes, prepared first if it does not exist.

    It is written to a temporary folder and renamed at the end, so that a process that dies leaves nothing that looks
    complete. One process prepares, others wait for it. `progress` is called with a line of text every few seconds.
    Raises UserError where the disk is full or cannot be written.
    """
    request = corpus_request(cfg, progress)
    folder = request.folder
    with _disk_errors(folder.parent):
        if not (folder / MANIFEST).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            waiting = f"{folder.name}: another process prepares it; waiting"
            with held_in_turn(folder.parent / f".{folder.name}.lock", waiting=lambda: progress(waiting)):
                if not (folder / MANIFEST).exists():
                    _make(request, folder, progress)
    return Corpus(folder)


def check(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> DataFaults:
    """Read every document of `cfg.data` and collect all faults, whatever `data.on_error` says."""
    ticker = Ticker(progress, cfg["data"]["name"])
    faults = DataFaults("skip", examples=None)
    documents = 0
    for documents, _ in enumerate(fill(cfg, "data.source").documents(faults), 1):
        ticker.maybe(f"read {documents:,} documents")
    ticker.say(f"{documents:,} documents can be used")
    return faults


def _make(request: CorpusRequest, folder: Path, progress: Progress) -> None:
    if folder.exists():
        raise UserError(f"{folder}: has no {MANIFEST}, so its content is unknown; move it away")
    prefix = f".{folder.name}.tmp"
    for left in folder.parent.glob(f"{prefix}*"):  # of a process that died; this one holds the lock
        shutil.rmtree(left, ignore_errors=True)
    temporary = folder.parent / f"{prefix}{os.getpid()}"
    temporary.mkdir()
    try:
        with _disk_errors(folder.parent):  # here, while the disk is as full as it was
            build(request, temporary, progress)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """What a disk refuses, as a UserError that names `folder`, where corpora are stored."""
    try:
        yield
    except OSError as error:
        if not (line := disk_error(error, folder)):
            raise
        raise UserError(f"{line}; nothing was prepared") from None


class Spool:
    """Documents of one part, kept on disk until the tokenizer is known."""

    def __init__(self, file: Path):
        self.file, self.lengths = file, array("q")  # bytes of each document
        self._open = open(file, "xb")  # noqa: SIM115 (closed by `close`)

    def add(self, text: bytes) -> None:
        self._open.write(text)
        self.lengths.append(len(text))

    def texts(self) -> Iterator[str]:
        self._open.flush()
        with open(self.file, "rb") as opened:
            for length in self.lengths:
                yield opened.read(length).decode()

    def sample(self, seed: int) -> Iterator[str]:
        """All of the text in a shuffled order, so that its beginning is an even sample.

        Long documents are cut into stretches, because a few of them could fill the sample; each byte is equally likely
        to come early. A character on a cut is left out.
        """
        self._open.flush()
        lengths = np.frombuffer(self.lengths, np.int64)
        counts = -(-lengths // STRETCH)  # stretches of each document
        ends, begins = np.cumsum(counts), np.cumsum(lengths) - lengths
        with open(self.file, "rb") as opened:
            for start in range(0, ends[-1], SHUFFLED):
                places = np.arange(start, min(start + SHUFFLED, ends[-1]))
                for stretch in permute(places, int(ends[-1]), seed, epoch=0):
                    document = np.searchsorted(ends, stretch, side="right")
                    skipped = int(stretch - (ends[document] - counts[document])) * STRETCH
                    opened.seek(begins[document] + skipped)
                    yield opened.read(min(STRETCH, lengths[document] - skipped)).decode(errors="ignore")

    def close(self) -> None:
        self._open.close()
        self.file.unlink()


class Ticker:
    """Reports progress, at most every few seconds unless something new starts."""

    def __init__(self, report: Progress, name: str):
        self._report, self._name, self._last = report, name, time.monotonic()

    def say(self, line: str) -> None:
        self._report(f"{self._name}: {line}")
        self._last = time.monotonic()

    def maybe(self, line: str) -> None:
        if time.monotonic() - self._last >= EVERY:
            self.say(line)


class Encoder:
    """Writes the documents of the parts as tokens, and counts the ids.

    counts: how often each id occurs in a part, (vocab_size,) int64, by the part's name; ends of documents left out.
    """

    def __init__(self, tokenizer: Tokenizer, layout: Layout, faults: DataFaults, ticker: Ticker):
        self._tokenizer, self._layout, self._faults, self._ticker = tokenizer, layout, faults, ticker
        self.counts = {part: np.zeros(layout.vocab_size, np.int64) for part in PARTS}

    def write(self, spool: Spool, writer: Writer) -> dict[str, Any]:
        """Write a part's documents, each followed by the end-of-sequence; returns the manifest's entry for the part."""
        batch: list[str] = []
        size = done = marks = 0
        for text in spool.texts():
            batch.append(text)
            size += len(text)
            marks += text.count(MARK)
            if size >= BATCH:
                self._add(batch, writer)
                done += len(batch)
                batch, size = [], 0
                self._ticker.maybe(f"encoded {done:,} of {len(spool.lengths):,} documents of the {writer.part} part")
        if batch:
            self._add(batch, writer)
        if marks and self._tokenizer.reads_mark_as_space:
            self._faults.note("U+2581, read as a space by the tokenizer", f"the {writer.part} part", marks)
        unknown = self._tokenizer.unknown_id
        if unknown is not None and (count := int(self.counts[writer.part][unknown])):
            self._faults.note("text that the tokenizer does not know", f"the {writer.part} part", count)
        total = sum(spool.lengths)
        spool.close()
        return {**writer.close(), "bytes": total}

    def token_bytes(self, text_bytes: int) -> np.ndarray:
        """Bytes of text that each id represents, (vocab_size,) float64.

        Those of the pieces, times one factor by which they add up to the `text_bytes` of the validation part: pieces
        may have a space that no text had, lack the spaces between words, or be normalised.
        """
        sizes = np.zeros(self._layout.vocab_size)
        sizes[: self._tokenizer.size] = self._tokenizer.bytes_per_piece()
        sizes[[self._layout.pad_id, self._layout.eos_id]] = 0
        piece_bytes = float(sizes @ self.counts["validation"])
        return sizes * (text_bytes / piece_bytes if piece_bytes else 0.0)

    def _add(self, texts: list[str], writer: Writer) -> None:
        documents = self._tokenizer.encode(texts)
        end = np.array([self._layout.eos_id], np.uint32)
        writer.add([np.concatenate([ids, end]) for ids in documents])
        self.counts[writer.part] += np.bincount(np.concatenate(documents), minlength=self._layout.vocab_size)


def build(request: CorpusRequest, folder: Path, progress: Progress) -> None:
    """Prepare the requested corpus in an empty folder, which is complete when this returns."""
    layout = request.tokenizer.layout  # a vocabulary that does not fit is refused before hours of reading
    ticker = Ticker(progress, request.name)
    faults = DataFaults(request.on_error)
    spools = {part: Spool(folder / f"{part}.txt") for part in PARTS}
    ticker.say("reading documents")
    duplicates = _divide(request, faults, spools, ticker)

    ticker.say("making the tokenizer")
    tokenizer = request.tokenizer.make(spools["train"].sample(SAMPLE_SEED))
    (folder / tokenizer.file).write_bytes(tokenizer.content())
    for kind, count in tokenizer.notes.items():
        faults.note(kind, tokenizer.file, count)
        ticker.say(f"{count} {kind}")
    encoder = Encoder(tokenizer, layout, faults, ticker)
    parts = {part: encoder.write(spools[part], Writer(folder, part, layout.dtype)) for part in PARTS}
    np.save(folder / "token_bytes.npy", encoder.token_bytes(parts["validation"]["bytes"]))
    np.save(folder / "token_counts.npy", encoder.counts["train"])
    content = {
        "name": request.name,
        "asked": request.fingerprint,
        "layout": layout.as_dict(),
        **parts,
        "tokenizer": {**entry(folder / tokenizer.file), "pieces": tokenizer.size},
        "token_bytes": entry(folder / "token_bytes.npy"),
        "token_counts": entry(folder / "token_counts.npy"),
        "duplicates": duplicates,
        "problems": faults.as_dict(),
    }
    _to_disk(folder)
    manifest = write_manifest(folder, content)
    ticker.say(_summary(manifest))


def _divide(request: CorpusRequest, faults: DataFaults, spools: dict[str, Spool], ticker: Ticker) -> int:
    """Spool each distinct document into the part that the hash of its text selects; the number of duplicates."""
    seen: set[bytes] = set()
    threshold = int(request.validation_share * (1 << 64))  # for the first 64 bits of the hash
    documents = characters = 0
    for text in request.source.documents(faults):
        documents += 1
        characters += len(text)
        content = text.encode()
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            spools["validation" if int.from_bytes(digest[:8], "big") < threshold else "train"].add(content)
        if documents % 100 == 0:
            ticker.maybe(f"read {documents:,} documents, {characters / 1e6:,.1f} M characters")
    if not seen:
        found = sum(faults.skipped.values())
        raise UserError(
            f"data={request.name}: no usable document"
            + (f"; {found} were skipped, first {faults.examples[0]}" if found else "")
        )
    for part, spool in spools.items():
        if not spool.lengths:
            raise UserError(
                f"data={request.name}: none of the {len(seen)} documents fell into the {part} part "
                f"at data.validation_share={request.validation_share}; give more or shorter documents, or another share"
            )
    return documents - len(seen)


def _to_disk(folder: Path) -> None:
    """Flush every file to the disk, so that after a power cut a manifest never describes files that were lost."""
    for file in [*folder.iterdir(), folder]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _summary(manifest: dict[str, Any]) -> str:
    train, validation, faults = manifest["train"], manifest["validation"], manifest["problems"]
    line = (
        f"{train['tokens']:,} tokens to train on in {train['documents']:,} documents, "
        f"{validation['tokens']:,} to validate on; {manifest['duplicates']:,} duplicates left out"
    )
    for word in ("skipped", "noted"):
        if counts := ", ".join(f"{count} {kind}" for kind, count in faults[word].items()):
            line += f"; {word}: {counts}"
    return line
