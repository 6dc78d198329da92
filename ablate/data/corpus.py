"""A corpus on disk: documents -> tokens, once; then memory-mapped and checked.

    <paths.data>/<name>-<hash>/
        train.bin validation.bin    uint16 or uint32 ids, an end of sequence behind each document
        train.offsets.npy ...       where each document starts
        token_bytes.npy             bytes of text that each id stands for
        tokenizer.model             or tokenizer.json
        manifest.json               counts, what was left out, sha256 of every file

The folder's name follows from what was asked (source, tokenizer, split). It is made beside its place and renamed, so
that half a corpus is never taken for a whole one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ablate.data.problems import Problems
from ablate.data.tokenizer import PAD, SENTINELS, Encoder
from ablate.errors import UserError

VERSION = 1  # of what is written below; part of the folder's name
PARTS = ("train", "validation")
BATCH = 512  # documents encoded at a time

Say = Callable[[str], None]


class Tokens:
    """One part of a corpus, as one long stream of ids."""

    def __init__(self, folder: Path, part: str, dtype: str):
        self.tokens = np.memmap(folder / f"{part}.bin", dtype=dtype, mode="r")
        self.offsets = np.load(folder / f"{part}.offsets.npy", mmap_mode="r")
        self.n_tokens = len(self.tokens)

    def n_windows(self, length: int) -> int:
        """How many windows of `length` tokens the stream holds."""
        return self.n_tokens // length

    def windows(self, indices: np.ndarray, length: int) -> np.ndarray:
        """(n, length) ids of the windows at `indices`: one gather."""
        rows = self.tokens[: self.n_windows(length) * length].reshape(-1, length)
        return rows[indices]


class Corpus:
    """A prepared corpus; raises UserError where a file is not what its manifest says."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        _verify(folder, self.manifest)
        self.name: str = self.manifest["name"]
        self.sha256: str = self.manifest["sha256"]
        self.vocab_size: int = self.manifest["vocab_size"]
        self.text_size: int = self.manifest["text_size"]
        self.eos_id: int = self.manifest["eos_id"]
        self.pad_id = PAD
        self.n_sentinels = SENTINELS
        self.token_bytes = np.load(folder / "token_bytes.npy")
        self.train, self.validation = (Tokens(folder, part, self.manifest["dtype"]) for part in PARTS)

    def sentinel(self, number: int) -> int:
        """The id of a sentinel: number 0 is the highest."""
        return self.text_size + SENTINELS - 1 - number

    @property
    def mask_id(self) -> int:
        """What stands for a hidden token in the masked objective: the first sentinel."""
        return self.sentinel(0)

    def describe(self) -> dict[str, Any]:
        """What a record says of its data."""
        keys = (
            "name", "sha256", "tokens", "validation_tokens", "documents", "validation_documents", "characters",
            "vocab_size", "python", "skipped", "noted",
        )  # fmt: skip
        return {key: self.manifest[key] for key in keys}


def folder_of(cfg: Mapping[str, Any]) -> Path:
    """Where the corpus that `cfg` asks for belongs."""
    asked = json.dumps(_asked(cfg), sort_keys=True).encode()
    return Path(cfg["paths"]["data"]) / f"{cfg['data']['name']}-{hashlib.sha256(asked).hexdigest()[:12]}"


def locate(cfg: Mapping[str, Any]) -> Corpus | None:
    """The corpus that `cfg` asks for, if it is there."""
    folder = folder_of(cfg)
    return Corpus(folder) if (folder / "manifest.json").exists() else None


def prepare(cfg: Mapping[str, Any], progress: Say = lambda line: None) -> Corpus:
    """The corpus that `cfg` asks for, made if it is not there; safe to ask from several processes at once."""
    folder = folder_of(cfg)
    if not (folder / "manifest.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.parent / f".{folder.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "manifest.json").exists():
                making = folder.parent / f".{folder.name}.making"
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir()
                try:
                    _make(cfg, making, progress)
                    os.rename(making, folder)
                finally:
                    shutil.rmtree(making, ignore_errors=True)
    return Corpus(folder)


def check(cfg: Mapping[str, Any]) -> Problems:
    """Read every document of the source and remember all that is wrong with it; makes nothing."""
    problems = Problems("skip", examples=None)
    for _ in _source(cfg).documents(problems):
        pass
    return problems


def _asked(cfg: Mapping[str, Any]) -> dict[str, Any]:
    data = cfg["data"]
    return {
        "version": VERSION,
        "source": _source(cfg).fingerprint(),
        "tokenizer": _tokenizer(cfg).fingerprint(),
        "validation_share": data["validation_share"],
        "on_error": data["on_error"],
    }


def _source(cfg: Mapping[str, Any]):
    return _instantiate(cfg["data"]["source"])


def _tokenizer(cfg: Mapping[str, Any]):
    return _instantiate(cfg["tokenizer"])


def _instantiate(content: Any) -> Any:
    from omegaconf import OmegaConf

    from ablate.config.targets import instantiate

    return instantiate(OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else dict(content))


def _make(cfg: Mapping[str, Any], folder: Path, say: Say) -> None:
    problems = Problems(cfg["data"]["on_error"])
    say(f"corpus {cfg['data']['name']}: reading documents")
    spool = _Spool(folder, float(cfg["data"]["validation_share"]))
    for text in _source(cfg).documents(problems):
        spool.add(text)
    spool.close()
    if not spool.counts["train"] or not spool.counts["validation"]:
        raise UserError(
            f"data={cfg['data']['name']}: {spool.counts['train']} documents to train on and {spool.counts['validation']} held out; "
            "give it more documents, or another data.validation_share"
        )
    say(f"corpus {cfg['data']['name']}: {sum(spool.counts.values()):,} documents, {spool.characters:,} characters; tokenizer")
    encoder = _tokenizer(cfg).encoder(spool.read("train"))
    vocab_size = cfg["tokenizer"]["vocab_size"]
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    tokens = {}
    for part in PARTS:
        say(f"corpus {cfg['data']['name']}: encoding {part}")
        tokens[part] = _write_tokens(folder, part, spool.read(part), encoder, dtype)
    sizes = np.zeros(vocab_size, dtype=np.uint16)
    sizes[: encoder.text_size] = encoder.token_bytes()
    np.save(folder / "token_bytes.npy", sizes)
    name, content = encoder.serialized()
    (folder / name).write_bytes(content)
    spool.remove()
    files = {path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())}
    manifest = {
        "version": VERSION, "name": cfg["data"]["name"], "asked": _asked(cfg), "python": platform.python_version(),
        "sha256": hashlib.sha256(json.dumps({n: f["sha256"] for n, f in files.items()}, sort_keys=True).encode()).hexdigest(),
        "dtype": dtype, "vocab_size": vocab_size, "text_size": encoder.text_size, "eos_id": encoder.eos_id,
        "tokens": tokens["train"], "validation_tokens": tokens["validation"],
        "documents": spool.counts["train"], "validation_documents": spool.counts["validation"],
        "duplicates": spool.duplicates, "characters": spool.characters, **problems.as_dict(), "files": files,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    left_out = sum(problems.skipped.values())
    say(
        f"corpus {cfg['data']['name']}: {tokens['train']:,} tokens to train on, {tokens['validation']:,} held out"
        + (f"; {left_out:,} documents or files left out: {dict(problems.skipped)}" if left_out else "")
    )


class _Spool:
    """Documents on their way: split by the hash of their text, exact duplicates dropped, a line of JSON each."""

    def __init__(self, folder: Path, validation_share: float):
        self.paths = {part: folder / f"{part}.jsonl" for part in PARTS}
        self.files = {part: path.open("w", encoding="utf-8") for part, path in self.paths.items()}
        self.limit = int(validation_share * 2**64)
        self.counts = dict.fromkeys(PARTS, 0)
        self.seen: set[int] = set()
        self.duplicates = self.characters = 0

    def add(self, text: str) -> None:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        key = int.from_bytes(digest[:8], "little")
        if key in self.seen:
            self.duplicates += 1
            return
        self.seen.add(key)
        part = "validation" if int.from_bytes(digest[8:16], "little") < self.limit else "train"
        self.files[part].write(json.dumps(text) + "\n")
        self.counts[part] += 1
        self.characters += len(text)

    def close(self) -> None:
        for file in self.files.values():
            file.close()

    def read(self, part: str) -> Iterator[str]:
        with self.paths[part].open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)

    def remove(self) -> None:
        for path in self.paths.values():
            path.unlink()


def _write_tokens(folder: Path, part: str, texts: Iterable[str], encoder: Encoder, dtype: str) -> int:
    """Write one part's ids and offsets; the number of its tokens."""
    offsets, total = [], 0
    end = np.array([encoder.eos_id], dtype=dtype)
    with (folder / f"{part}.bin").open("wb") as file:
        for batch in _batched(texts, BATCH):
            for ids in encoder.encode(batch):
                offsets.append(total)
                total += len(ids) + 1
                file.write(ids.astype(dtype).tobytes())
                file.write(end.tobytes())
    np.save(folder / f"{part}.offsets.npy", np.asarray(offsets, dtype=np.int64))
    return total


def _batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Hash every file, or trust an earlier look at the same sizes and times."""
    state = {name: [(stat := (folder / name).stat()).st_size, stat.st_mtime_ns] for name in manifest["files"] if (folder / name).exists()}
    seen = folder / ".verified.json"
    if seen.exists() and _json_or_none(seen) == state and len(state) == len(manifest["files"]):
        return
    for name, expected in manifest["files"].items():
        if name not in state or _sha256(folder / name) != expected["sha256"]:
            raise UserError(f"{folder / name}: not what its manifest says; remove {folder} to have it made again")
    temporary = folder / f".verified.{os.getpid()}"
    temporary.write_text(json.dumps(state))
    os.replace(temporary, seen)


def _json_or_none(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
