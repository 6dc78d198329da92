"""Preparing a corpus: documents -> train and validation part -> a tokenizer -> shards and a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ablate.config.instantiation import fill
from ablate.data.corpus import Corpus
from ablate.data.corpus_request import CorpusRequest, corpus_request
from ablate.data.data_faults import DataFaults
from ablate.data.encoder import Encoder
from ablate.data.manifest import MANIFEST, write_manifest
from ablate.data.shards import Writer, entry
from ablate.data.spool import Spool
from ablate.data.ticker import Progress, Ticker
from ablate.data.tokenizer_backends import Tokenizer, load
from ablate.data.unfinished import Unfinished
from ablate.errors import UserError, disk_error
from ablate.run.files import atomic_write, sha256
from ablate.run.lock import Busy, held_in_turn, renew

SAMPLE_SEED = 20210611  # of the text that a tokenizer is trained on; no run's seed
PARTS = ("train", "validation")
PARTIAL = ".partial"  # the ending of a corpus that is not whole, in a hidden folder


def prepare(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> Corpus:
    """The corpus that `cfg` describes, prepared first if it does not exist.

    It is written to a hidden folder and renamed at the end, so that a process that dies leaves nothing that looks
    complete; the next one goes on with what it has done, and ends with the same bytes. One process prepares, others
    wait for it as long as it shows signs of life. `progress` is called with a line of text every few seconds. Raises
    UserError where the disk is full or cannot be written, or where the process
    that prepares is stopped.
    """
    request = corpus_request(cfg, progress)
    folder = request.folder
    with _disk_errors(folder.parent):
        if not (folder / MANIFEST).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _in_turn(folder, progress) as report:
                if not (folder / MANIFEST).exists():
                    _make(request, folder, report)
    return Corpus(folder)


@contextlib.contextmanager
def _in_turn(folder: Path, progress: Progress) -> Iterator[Progress]:
    """Be the only one that prepares `folder`; yields what to report progress to, which others see as well.

    Raises `UserError` where another process neither ends it nor shows a sign of life.
    """
    lock = folder.parent / f".{folder.name}.lock"

    def report(line: str) -> None:
        renew(lock)
        progress(line)

    def waiting(holder: str) -> None:
        progress(f"{folder.name}: another process prepares it; waiting for {holder}")

    try:
        with held_in_turn(lock, waiting=waiting):
            yield report
    except Busy as busy:
        raise UserError(f"{folder}: another process prepares it; {busy}") from None


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
    for left in folder.parent.glob(f".{folder.name}.tmp*"):  # of an older version, which went on with nothing
        shutil.rmtree(left, ignore_errors=True)
    begun = folder.parent / f".{folder.name}{PARTIAL}"
    begun.mkdir(exist_ok=True)
    try:
        with _disk_errors(folder.parent):  # here, while the disk is as full as it was
            build(request, begun, progress)
            begun.rename(folder)
    except Exception:  # an interruption is none: what is done so far stays for the next one
        shutil.rmtree(begun, ignore_errors=True)
        raise


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """What a disk refuses, as a UserError that names `folder`, where corpora are stored."""
    try:
        yield
    except OSError as error:
        if not (line := disk_error(error, folder)):
            raise
        raise UserError(f"{line}; nothing was prepared") from None


def build(request: CorpusRequest, folder: Path, progress: Progress) -> None:
    """Prepare the requested corpus in a folder, which is complete when this returns.

    The folder is empty, or has what an earlier call has done of it before it was interrupted.
    """
    unfinished = Unfinished(folder)
    if not (folder / MANIFEST).exists():  # which is written last
        _write(request, folder, unfinished, Ticker(progress, request.name))
    unfinished.remove()


def _write(request: CorpusRequest, folder: Path, unfinished: Unfinished, ticker: Ticker) -> None:
    layout = request.tokenizer.layout  # a vocabulary that does not fit is refused before hours of reading
    faults = DataFaults(request.on_error)
    spools, duplicates = _documents(request, faults, unfinished, ticker)
    tokenizer = _tokenizer(request, spools["train"], folder, unfinished, ticker)
    for kind, count in tokenizer.notes.items():
        faults.note(kind, tokenizer.file, count)
        ticker.say(f"{count} {kind}")
    encoder = Encoder(tokenizer, layout, PARTS, faults, ticker)
    parts = {
        part: encoder.write(spools[part], Writer(folder, part, layout.dtype), unfinished.journal(part))
        for part in PARTS
    }
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


def _documents(
    request: CorpusRequest, faults: DataFaults, unfinished: Unfinished, ticker: Ticker
) -> tuple[dict[str, Spool], int]:
    """The documents of each part, and how many duplicates were left out: read before, or now."""
    files = {part: unfinished.folder / f"{part}.txt" for part in PARTS}
    if found := unfinished.result("documents"):
        spools = {part: spool for part, file in files.items() if (spool := Spool.finished(file))}
        if len(spools) == len(PARTS):
            ticker.say("goes on from where it was interrupted: all documents were read")
            faults.restore(found["problems"])
            return spools, found["duplicates"]
    unfinished.restart()
    ticker.say("reading documents")
    spools = {part: Spool(file) for part, file in files.items()}
    duplicates = _divide(request, faults, spools, ticker)
    for spool in spools.values():
        spool.finish()
    unfinished.finish("documents", {"duplicates": duplicates, "problems": faults.as_dict()})
    return spools, duplicates


def _tokenizer(request: CorpusRequest, spool: Spool, folder: Path, unfinished: Unfinished, ticker: Ticker) -> Tokenizer:
    """The tokenizer, in a file of `folder`: made before, or now."""
    if found := unfinished.result("tokenizer"):
        file = folder / found["file"]
        if file.is_file() and sha256(file) == found["sha256"]:
            tokenizer = load(file)
            tokenizer.notes = found["notes"]
            return tokenizer
    ticker.say("making the tokenizer")
    made: Tokenizer = request.tokenizer.make(spool.sample(SAMPLE_SEED))
    atomic_write(folder / made.file, made.content())
    unfinished.finish("tokenizer", {**entry(folder / made.file), "notes": made.notes})
    return made


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
