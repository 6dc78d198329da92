"""A corpus on disk: text prepared once into token shards with a manifest, and opened for training.

<paths.data>/<name>-<hash of what was asked>/
    manifest.json            what was asked, the ids, counts, what was wrong with the data, the hash of every file
    train-00000.bin          tokens, uint16 or uint32          validation-00000.bin
    train-offsets.npy        where documents start             validation-offsets.npy
    tokenizer.json           or tokenizer.model
    token_bytes.npy          bytes of text that each id stands for
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ablate.config.targets import instantiate
from ablate.data.layout import Layout
from ablate.data.problems import Problems
from ablate.data.shards import Reader, verify
from ablate.errors import UserError
from ablate.record import sha256

VERSION = 1  # raised when the same question would give other tokens
MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

Progress = Callable[[str], None]


class Corpus:
    """A prepared corpus. Raises UserError where a file differs from the manifest.

    train, validation: readers of its two parts, which share no document.
    layout: its ids; sha256: the hash of all that training reads, the same wherever the same text was prepared.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest: dict[str, Any] = _read_manifest(folder)
        verify(folder, self.manifest)
        self.name: str = self.manifest["name"]
        self.sha256: str = self.manifest["sha256"]
        self.layout = Layout(**self.manifest["layout"])
        self.train = Reader(folder, self.manifest["train"], self.layout.dtype)
        self.validation = Reader(folder, self.manifest["validation"], self.layout.dtype)

    @property
    def vocab_size(self) -> int:
        return self.layout.vocab_size

    @property
    def eos_id(self) -> int:
        return self.layout.eos_id

    @property
    def pad_id(self) -> int:
        return self.layout.pad_id

    @property
    def mask_id(self) -> int:
        return self.layout.mask_id

    def sentinel(self, k: int) -> int:
        """The id of sentinel `k`, counted from 0."""
        return self.layout.sentinel(k)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text that each id stands for, (vocab_size,) uint16; 0 for end, padding and sentinels."""
        return np.load(self.folder / self.manifest["token_bytes"]["file"], allow_pickle=False)

    def describe(self) -> dict[str, Any]:
        """What a run's record says of its data."""
        train, validation = self.manifest["train"], self.manifest["validation"]
        return {
            "name": self.name,
            "sha256": self.sha256,
            "tokens": train["tokens"],
            "validation_tokens": validation["tokens"],
            "documents": train["documents"],
            "validation_documents": validation["documents"],
            "vocab_size": self.vocab_size,
            "python": self.manifest["asked"]["source"].get("python"),
            "skipped": sum(self.manifest["problems"]["skipped"].values()),
        }


@dataclass(frozen=True)
class Question:
    """What decides a corpus: its parts, made from the config, and all that goes into its folder's name."""

    name: str
    root: Path
    source: Any
    tokenizer: Any
    validation_share: float
    on_error: str
    asked: dict[str, Any]

    @property
    def folder(self) -> Path:
        text = json.dumps(self.asked, sort_keys=True, separators=(",", ":"))
        return self.root / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def question(cfg: DictConfig | dict) -> Question:
    """What `cfg.data`, `cfg.tokenizer` and `cfg.paths.data` ask for; raises UserError where it cannot be answered."""
    data, tokenizer = (_plain(cfg, group) for group in ("data", "tokenizer"))
    share = data["validation_share"]
    if not 0 < share < 1:
        raise UserError(f"data.validation_share={share}: must be above 0 and below 1")
    if not NAME.fullmatch(data["name"]):
        raise UserError(f"data.name={data['name']!r}: a name has letters, digits, and . _ - within")
    Problems(data["on_error"])
    source = instantiate(data["source"])
    asked = {
        "version": VERSION,
        "source": source.fingerprint(),
        "tokenizer": {**tokenizer, **_contents_of_files(tokenizer)},
        "validation_share": share,
        "on_error": data["on_error"],
    }
    root = Path(str(OmegaConf.select(cfg, "paths.data") if isinstance(cfg, DictConfig) else cfg["paths"]["data"]))
    return Question(data["name"], root, source, instantiate(tokenizer), share, data["on_error"], asked)


def locate(cfg: DictConfig | dict) -> Corpus | None:
    """The corpus that `cfg` asks for, if it is prepared; nothing is made."""
    folder = question(cfg).folder
    return Corpus(folder) if (folder / MANIFEST).exists() else None


def prepare(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> Corpus:
    """The corpus that `cfg` asks for, prepared first where it is not there.

    Written beside its place and renamed at the end: a process that dies leaves nothing that is taken for whole. One
    process prepares, others wait for it. `progress` is told what happens, a line now and then.
    """
    asked = question(cfg)
    folder = asked.folder
    if not (folder / MANIFEST).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder, progress):
            if not (folder / MANIFEST).exists():
                _make(asked, folder, progress)
    return Corpus(folder)


def check(cfg: DictConfig | dict, progress: Progress = lambda line: None) -> Problems:
    """Read every document of `cfg.data` and name all that is wrong, whatever `data.on_error` says."""
    from ablate.data.preparing import Ticker

    ticker = Ticker(progress, cfg["data"]["name"])
    problems = Problems("skip", examples=None)
    documents = 0
    for documents, _ in enumerate(instantiate(_plain(cfg, "data")["source"]).documents(problems), 1):
        ticker.maybe(f"read {documents:,} documents")
    ticker.say(f"{documents:,} documents can be used")
    return problems


def _make(asked: Question, folder: Path, progress: Progress) -> None:
    from ablate.data.preparing import build

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


@contextlib.contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock on making `folder`; the system frees it when this process dies."""
    with open(folder.parent / f".{folder.name}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"{folder.name}: another process prepares it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / MANIFEST}: cannot be read ({error}); delete {folder} to prepare it again") from None


def _plain(cfg: DictConfig | dict, group: str) -> dict[str, Any]:
    content = cfg[group]
    return OmegaConf.to_container(content, resolve=True) if isinstance(content, DictConfig) else dict(content)


def _contents_of_files(tokenizer: dict[str, Any]) -> dict[str, str]:
    """For a tokenizer in a file: the hash of the file in place of its name."""
    file = tokenizer.get("file")
    return {"file": sha256(file)} if file and Path(file).is_file() else {}
