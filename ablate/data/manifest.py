"""manifest.json, what a corpus says of itself: it carries a hash of its own content and of the corpus."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.data.shards import again, entries
from ablate.errors import UserError, disk_error
from ablate.run.files import atomic_write
from ablate.run.json_object import DamagedJSON, JSONObject

MANIFEST = "manifest.json"
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # what a file of a corpus is called
OWN_HASH = "manifest_sha256"  # over everything else in it


@dataclass(frozen=True, kw_only=True)
class File(JSONObject):
    """A file of the corpus."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Shard(File):
    """A file of tokens."""

    tokens: int


@dataclass(frozen=True, kw_only=True)
class TokenizerFile(File):
    """The tokenizer, with its number of pieces."""

    pieces: int


@dataclass(frozen=True, kw_only=True)
class Part(JSONObject):
    """The train or validation part."""

    tokens: int
    documents: int
    bytes: int
    shards: tuple[Shard, ...]
    offsets: File


@dataclass(frozen=True, kw_only=True)
class Ids(JSONObject):
    """The fields of a `Layout`."""

    vocab_size: int
    text_size: int
    n_sentinels: int
    pad_id: int
    eos_id: int


@dataclass(frozen=True, kw_only=True)
class Asked(JSONObject):
    """The request."""

    source: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Problems(JSONObject):
    """Faults in the data."""

    skipped: Mapping[str, int]
    noted: Mapping[str, int]
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest(JSONObject):
    """The whole content, by which a manifest's types are checked."""

    name: str
    sha256: str
    asked: Asked
    layout: Ids
    train: Part
    validation: Part
    tokenizer: TokenizerFile
    token_bytes: File
    token_counts: File
    duplicates: int
    problems: Problems
    manifest_sha256: str


def write_manifest(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a corpus, with the hashes that vouch for it; returns it."""
    manifest = {**content, "sha256": _corpus_hash(content)}
    manifest = {**manifest, OWN_HASH: _own_hash(manifest)}
    atomic_write(folder / MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a corpus; raises UserError where it is not what was written when the corpus was prepared."""
    file = folder / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if not isinstance(content, dict):
            raise DamagedJSON("is not a JSON object")
        _check(content)
    except OSError as error:
        raise UserError(disk_error(error, file) or f"{file}: cannot be read ({error.strerror})") from None
    except DamagedJSON as error:
        raise UserError(f"{file}: differs from what was prepared ({error}); {again(folder)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read ({error}); {again(folder)}") from None
    return content


def _check(content: dict[str, Any]) -> None:
    """Raise `DamagedJSON` where a manifest has other types, hashes or counts than one that was written here."""
    Manifest.from_json(content)
    if content[OWN_HASH] != _own_hash(content):
        raise DamagedJSON("its own hash is another")
    if content["sha256"] != _corpus_hash(content):
        raise DamagedJSON("its layout and files are not those of its sha256")
    for item in entries(content):
        if not FILE.fullmatch(item["file"]):
            raise DamagedJSON(f"{item['file']!r:.60} is not the name of a file in its folder")
    if not _is_possible(content["layout"]):
        raise DamagedJSON("its layout is not possible")


def _is_possible(layout: Mapping[str, int]) -> bool:
    size = layout["vocab_size"]
    return (
        all(number >= 0 for number in layout.values())
        and size <= 1 << 32
        and layout["text_size"] + layout["n_sentinels"] <= size
        and max(layout["pad_id"], layout["eos_id"]) < size
    )


def _corpus_hash(content: Mapping[str, Any]) -> str:
    """The hash of all that training reads."""
    return _hash([content["layout"], [[item["file"], item["sha256"]] for item in entries(content)]])


def _own_hash(content: Mapping[str, Any]) -> str:
    return _hash({key: value for key, value in content.items() if key != OWN_HASH})


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _refuse_constant(name: str) -> None:
    raise DamagedJSON(f"{name} is no number")
