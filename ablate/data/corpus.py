"""A corpus on disk: text prepared once into token shards with a manifest, and opened for training.

<paths.data>/<name>-<hash of the request>/
    manifest.json            the request, the ids, counts, faults in the data, the hash of every file and its own
    train-00000.bin          tokens, uint16 or uint32          validation-00000.bin
    train-offsets.npy        where documents begin             validation-offsets.npy
    tokenizer.json           or tokenizer.model
    token_bytes.npy          bytes of text that each id represents
    token_counts.npy         how often each id occurs in the train part
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ablate.data.manifest import read_manifest
from ablate.data.shards import Reader, check_counts, verify
from ablate.data.tokenizer_backends import Tokenizer, load
from ablate.data.vocabulary import Layout


class Corpus:
    """A prepared corpus. Raises UserError if a file is missing or differs from the manifest.

    train, validation: readers of its two parts, which have no document in common.
    layout: its ids; sha256: the hash of all that training reads, the same wherever the same text was prepared.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.manifest: dict[str, Any] = read_manifest(folder)
        verify(folder, self.manifest)
        self.name: str = self.manifest["name"]
        self.sha256: str = self.manifest["sha256"]
        self.layout = Layout(**self.manifest["layout"])
        check_counts(folder, self.manifest, self.layout.dtype)
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
    def tokenizer(self) -> Tokenizer:
        """Text to its ids and back."""
        return load(self.folder / self.manifest["tokenizer"]["file"])

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """Bytes of text that each id represents, (vocab_size,) float64; 0 for end, padding and sentinels.

        Over the validation part they add up to its text as it was read.
        """
        sizes: np.ndarray = np.load(self.folder / self.manifest["token_bytes"]["file"], allow_pickle=False)
        return sizes

    @cached_property
    def text_ids(self) -> np.ndarray:
        """The ids that text of the train part has, ascending int64, without the end-of-sequence."""
        counts = np.load(self.folder / self.manifest["token_counts"]["file"], allow_pickle=False)
        return np.flatnonzero(counts)

    def describe(self) -> dict[str, Any]:
        """The `data` entry of a run's record."""
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
