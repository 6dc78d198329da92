"""Tokenizers of two libraries with one interface: text <-> ids, and the bytes of text that an id represents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ablate.data.cpu_count import cores
from ablate.errors import UserError

MARK = "\u2581"  # represents a space in the pieces of SentencePiece and of those like it
SPECIAL = ("<pad>", "<eos>", "<unk>")  # ids 0, 1, 2 of a tokenizer that is trained here; text that spells them is text


class Tokenizer(Protocol):
    """What preparing a corpus needs of a tokenizer: all ids are below `size`; `file` names the file of its content.

    notes: what the manifest should say of how it was made, with a count each.
    unknown_id: of text that it has no piece for; None where there is no such text.
    reads_mark_as_space: whether U+2581, which represents a space in its pieces, becomes a space where a text has it.
    """

    file: str
    size: int
    notes: dict[str, int]
    unknown_id: int | None
    reads_mark_as_space: bool

    def encode(self, texts: Sequence[str], threads: int | None = None) -> list[np.ndarray]:
        """The ids of each text, uint32, without specials, to be read only; several threads may call it at once.

        threads: how many work on it; None takes all cores. Calls of the `tokenizers` library share one pool of threads,
        of the size that `cores` says, whatever is asked here.
        """
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these ids; ids that are not pieces of text are left out."""
        ...

    def bytes_per_piece(self) -> np.ndarray:
        """Bytes of text that each id represents, (size,) uint16; 0 for specials."""
        ...

    def content(self) -> bytes:
        """The bytes of its file."""
        ...


class HuggingFace:
    """A tokenizer of the `tokenizers` library, `tokenizer.json`; special pieces are never recognised in text."""

    file = "tokenizer.json"

    def __init__(self, description: str, notes: dict[str, int] | None = None):
        from tokenizers import Tokenizer as Fast

        cores()
        self._fast = Fast.from_str(description)
        self._fast.no_truncation()
        self._fast.no_padding()
        self._fast.encode_special_tokens = True
        self.pieces: dict[str, int] = self._fast.get_vocab(with_added_tokens=True)
        self.size = max(self.pieces.values()) + 1
        self.notes = notes or {}
        self._description = description
        described = json.loads(description)
        model = described["model"]
        unknown = model.get("unk_token")
        self.unknown_id: int | None = model.get("unk_id") if unknown is None else self.pieces.get(unknown)
        # a byte-level vocabulary writes each byte as one character
        self._is_in_bytes = '"ByteLevel"' in json.dumps([described.get("pre_tokenizer"), described.get("decoder")])
        self.reads_mark_as_space = not self._is_in_bytes and any(MARK in piece for piece in self.pieces)
        special = {token["id"] for token in described.get("added_tokens") or () if token["special"]}
        self._special = np.zeros(self.size, bool)
        self._special[sorted(special - {self.unknown_id})] = True

    def encode(self, texts: Sequence[str], threads: int | None = None) -> list[np.ndarray]:
        """The ids of each text, uint32, without specials. Raises UserError if text became a special id."""
        encoded = self._fast.encode_batch_fast(texts, add_special_tokens=False)
        found = [np.array(encoding.ids, np.uint32) for encoding in encoded]
        for ids in found:
            if (bad := ids[self._special[ids]]).size:
                piece = self._fast.id_to_token(int(bad[0]))
                raise UserError(
                    f"the tokenizer reads text as its special piece {piece!r}; take another tokenizer, "
                    "or another piece as tokenizer.eos or tokenizer.pad"
                )
        return found

    def decode(self, ids: Sequence[int]) -> str:
        return self._fast.decode([int(i) for i in ids if i < self.size], skip_special_tokens=True)

    def bytes_per_piece(self) -> np.ndarray:
        """Bytes of text that each id represents, (size,) uint16; 0 for specials, 1 for an unknown piece."""
        described = json.loads(self._description)
        prefix = described["model"].get("continuing_subword_prefix") or ""
        sizes = np.zeros(self.size, np.uint16)
        for piece, index in self.pieces.items():
            if index == self.unknown_id:
                sizes[index] = 1
            elif not self._special[index] and not (piece in SPECIAL and index == SPECIAL.index(piece)):
                sizes[index] = len(piece) if self._is_in_bytes else _bytes_of(piece.removeprefix(prefix))
        return sizes

    def content(self) -> bytes:
        return self._description.encode()


class SentencePiece:
    """A SentencePiece model, `tokenizer.model`."""

    file = "tokenizer.model"
    reads_mark_as_space = True

    def __init__(self, model: bytes, notes: dict[str, int] | None = None):
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._processor.get_piece_size()
        self._model = model
        self.notes = notes or {}
        unknown = self._processor.unk_id()
        self.unknown_id: int | None = unknown if unknown >= 0 else None

    @property
    def pad_id(self) -> int | None:
        return self._processor.pad_id() if self._processor.pad_id() >= 0 else None

    @property
    def eos_id(self) -> int | None:
        return self._processor.eos_id() if self._processor.eos_id() >= 0 else None

    def encode(self, texts: Sequence[str], threads: int | None = None) -> list[np.ndarray]:
        """The ids of each text, uint32, without specials; other threads go on meanwhile."""
        found = self._processor.encode(list(texts), num_threads=threads or cores(), return_type="numpy")
        return [ids.view(np.uint32) for ids in found]  # int32, and none is negative

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._processor.decode([int(i) for i in ids if i < self.size])
        return text

    def bytes_per_piece(self) -> np.ndarray:
        """Bytes of text that each id represents, (size,) uint16; 0 for specials, 1 for an unknown character."""
        processor, sizes = self._processor, np.zeros(self.size, np.uint16)
        for index in range(self.size):
            if processor.is_byte(index) or processor.is_unknown(index):
                sizes[index] = 1
            elif not processor.is_control(index):
                sizes[index] = _bytes_of(processor.id_to_piece(index))
        return sizes

    def content(self) -> bytes:
        return self._model


def load(path: Path) -> Tokenizer:
    """The tokenizer whose content is in a file called `tokenizer.json` or `tokenizer.model`."""
    content = path.read_bytes()
    return HuggingFace(content.decode()) if path.name == HuggingFace.file else SentencePiece(content)


def _bytes_of(piece: str) -> int:
    """UTF-8 bytes of a piece's text, in which MARK represents a space and <0x41> a single byte."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return 1
    return len(piece.replace(MARK, " ").encode())
