"""What determines a corpus (text, tokenizer, split), and from it the folder in which it is stored."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ablate.config.instantiation import fill
from ablate.config.root import Data
from ablate.data.file_hashes import MEMORY, FileHashes
from ablate.errors import UserError
from ablate.ranges import check
from ablate.run.files import sha256

VERSION = 2  # raised when the same request would give other tokens
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class CorpusRequest:
    """The parts of a corpus, made from the config, and `fingerprint`: all that its folder's name depends on."""

    name: str
    root: Path
    source: Any
    tokenizer: Any
    validation_share: float
    on_error: str
    fingerprint: dict[str, Any]

    @property
    def folder(self) -> Path:
        text = json.dumps(self.fingerprint, sort_keys=True, separators=(",", ":"))
        return self.root / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def corpus_request(cfg: DictConfig | dict, progress: Callable[[str], None] = lambda line: None) -> CorpusRequest:
    """The corpus that `cfg.data`, `cfg.tokenizer` and `cfg.paths.data` describe; UserError for invalid values.

    Files of text are hashed the first time, and `progress` called with a line where that takes long.
    """
    data, tokenizer = (group_of(cfg, group) for group in ("data", "tokenizer"))
    share = data["validation_share"]
    check(Data, "data", validation_share=share, on_error=data["on_error"])
    if not NAME.fullmatch(data["name"]):
        raise UserError(
            f"data.name={data['name']!r}: must be letters, digits and _, after the first character also . and -"
        )
    root = Path(str(OmegaConf.select(cfg, "paths.data") if isinstance(cfg, DictConfig) else cfg["paths"]["data"]))
    source = fill(cfg, "data.source")
    with FileHashes(root / MEMORY, lambda line: progress(f"{data['name']}: {line}")) as hashes:
        takes_hashes = inspect.signature(source.fingerprint).parameters  # a source without files need not
        of_source = source.fingerprint(hashes) if takes_hashes else source.fingerprint()
    fingerprint = {
        "version": VERSION,
        "source": of_source,
        "tokenizer": {**tokenizer, **_contents_of_files(tokenizer)},
        "validation_share": share,
        "on_error": data["on_error"],
    }
    return CorpusRequest(data["name"], root, source, fill(cfg, "tokenizer"), share, data["on_error"], fingerprint)


def group_of(cfg: DictConfig | dict, group: str) -> dict[str, Any]:
    """A group of a config as plain containers, resolved."""
    content = cfg[group]
    plain: Any = OmegaConf.to_container(content, resolve=True) if OmegaConf.is_config(content) else content
    return dict(plain)


def _contents_of_files(tokenizer: dict[str, Any]) -> dict[str, str]:
    """For a tokenizer in a file: the hash of the file in place of its name."""
    file = tokenizer.get("file")
    return {"file": sha256(file)} if file and Path(file).is_file() else {}
