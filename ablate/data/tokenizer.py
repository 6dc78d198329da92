"""Text <-> ids: byte-level BPE or Unigram with byte fallback trained at a size, or a tokenizer loaded from a file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ablate.data import layout
from ablate.data.cores import cores
from ablate.data.layout import Layout
from ablate.errors import UserError, nearest

SPECIAL = ("<pad>", "<eos>", "<unk>")  # ids 0, 1, 2 of a trained tokenizer; text that spells them is text
COUNTED = 2_000_000  # characters in which pieces are counted to order them
ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[SEP]")
PADS = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>")


class Tokenizer(Protocol):
    """What preparation needs of a tokenizer; ids lie below `size`."""

    file: str
    size: int

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def bytes_per_piece(self) -> np.ndarray: ...

    def content(self) -> bytes: ...


class HuggingFace:
    """A tokenizer of the `tokenizers` library, `tokenizer.json`; special pieces are never found in text."""

    file = "tokenizer.json"

    def __init__(self, description: str):
        from tokenizers import Tokenizer as Fast

        cores()
        self._fast = Fast.from_str(description)
        self._fast.no_truncation()
        self._fast.no_padding()
        self._fast.encode_special_tokens = True
        self.pieces: dict[str, int] = self._fast.get_vocab(with_added_tokens=True)
        self.size = max(self.pieces.values()) + 1
        self._description = description

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, uint32, without specials; all cores."""
        return [np.array(found.ids, np.uint32) for found in self._fast.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._fast.decode([int(i) for i in ids if i < self.size], skip_special_tokens=True)

    def bytes_per_piece(self) -> np.ndarray:
        """Bytes of text that each id stands for, (size,) uint16; 0 for specials."""
        described = json.loads(self._description)
        special = {token["id"] for token in described.get("added_tokens", []) if token["special"]}
        prefix = (described["model"].get("continuing_subword_prefix") or "") if isinstance(described.get("model"), dict) else ""
        in_bytes = '"ByteLevel"' in json.dumps([described.get("pre_tokenizer"), described.get("decoder")])
        sizes = np.zeros(self.size, np.uint16)
        for piece, index in self.pieces.items():
            if index in special or (piece in SPECIAL and index == SPECIAL.index(piece)):
                continue
            # a byte-level vocabulary writes each byte as one character
            sizes[index] = len(piece) if in_bytes else _bytes_of(piece.removeprefix(prefix))
        return sizes

    def content(self) -> bytes:
        return self._description.encode()


class SentencePiece:
    """A SentencePiece model, `tokenizer.model`."""

    file = "tokenizer.model"

    def __init__(self, model: bytes):
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._processor.get_piece_size()
        self._model = model

    @property
    def pad_id(self) -> int | None:
        return self._processor.pad_id() if self._processor.pad_id() >= 0 else None

    @property
    def eos_id(self) -> int | None:
        return self._processor.eos_id() if self._processor.eos_id() >= 0 else None

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, uint32, without specials; all cores."""
        return [np.array(ids, np.uint32) for ids in self._processor.encode(list(texts), num_threads=cores())]

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode([int(i) for i in ids if i < self.size])

    def bytes_per_piece(self) -> np.ndarray:
        """Bytes of text that each id stands for, (size,) uint16; 0 for specials, 1 for an unknown character."""
        processor, sizes = self._processor, np.zeros(self.size, np.uint16)
        for index in range(self.size):
            if not processor.is_control(index):
                sizes[index] = 1 if processor.is_byte(index) or processor.is_unknown(index) else _bytes_of(processor.id_to_piece(index))
        return sizes

    def content(self) -> bytes:
        return self._model


def _bytes_of(piece: str) -> int:
    """Bytes of the text of a piece in which a lower block stands for a space and <0x41> for a byte."""
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return 1
    return len(piece.replace("\u2581", " ").encode())


def train_bpe(texts: Iterable[str], *, vocab_size: int, sentinels: int, characters: int) -> tuple[HuggingFace, Layout]:
    """Byte-level BPE (Sennrich et al. 2016; bytes as in Radford et al. 2019): lossless, no unknown character.

    Trained on the first `characters` of `texts`; ids fall with frequency there, as vocabularies in clusters need.
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import decoders, models, pre_tokenizers, trainers

    ids = layout.trained(vocab_size, sentinels)
    cores()
    sample = list(_first(texts, characters))
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=ids.text_size - len(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    fast.train_from_iterator(sample, trainer)
    described = json.loads(fast.to_str())
    counts = _frequencies(HuggingFace(fast.to_str()), sample)
    pieces = sorted(described["model"]["vocab"].items(), key=lambda pair: (-counts[pair[1]], pair[1]))
    described["model"]["vocab"] = {piece: index for index, piece in enumerate([*SPECIAL, *(piece for piece, _ in pieces)])}
    return HuggingFace(json.dumps(described, ensure_ascii=False)), ids


def train_unigram(texts: Iterable[str], *, vocab_size: int, sentinels: int, characters: int) -> tuple[SentencePiece, Layout]:
    """Unigram (Kudo 2018) with byte fallback, by SentencePiece, lossless: nothing is normalised.

    Trained on the first `characters` of `texts`; ids fall with frequency there, as vocabularies in clusters need.
    """
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    ids = layout.trained(vocab_size, sentinels)
    sample = list(_first(texts, characters))
    written = io.BytesIO()
    pad, end, unknown = SPECIAL
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line for text in sample for line in text.split("\n") if line),
            model_writer=written,
            model_type="unigram",
            vocab_size=ids.text_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "pad_piece": pad, "eos_piece": end, "unk_piece": unknown},
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=1 << 20,
            num_threads=1,  # sums over threads would round differently
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"tokenizer=unigram: cannot be trained on this text ({str(error).splitlines()[0]})") from None
    model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())
    counts = _frequencies(SentencePiece(written.getvalue()), sample)
    pieces = list(model.pieces)
    order = sorted(range(len(SPECIAL), len(pieces)), key=lambda index: (-counts[index], index))
    del model.pieces[:]
    model.pieces.extend([*pieces[: len(SPECIAL)], *(pieces[index] for index in order)])
    return SentencePiece(model.SerializeToString(deterministic=True)), ids


def load(
    texts: Iterable[str], *, file: str | None, vocab_size: int, sentinels: int, eos: str | None, pad: str | None
) -> tuple[HuggingFace | SentencePiece, Layout]:
    """The tokenizer in a `tokenizer.json` or a SentencePiece model, with its own ids; `texts` are not read.

    eos, pad: its pieces for end-of-sequence and padding; None looks for the usual names, and adds an id where there is none.
    """
    if not file or not Path(file).is_file():
        raise UserError(f"tokenizer.file={file}: " + ("there is no such file" if file else "name a tokenizer.json or a SentencePiece model"))
    content = Path(file).read_bytes()
    if content.lstrip()[:1] == b"{":
        tokenizer, own = _from_json(content, file, eos, pad)
    else:
        tokenizer, own = _from_model(content, file, eos, pad)
    return tokenizer, layout.loaded(vocab_size, sentinels, tokenizer.size, *own, f"tokenizer.file={file}")


def _from_json(content: bytes, file: str, eos: str | None, pad: str | None) -> tuple[HuggingFace, tuple[int | None, int | None]]:
    try:
        tokenizer = HuggingFace(content.decode())
    except Exception as error:  # the library raises bare Exception for a file that it cannot read
        raise UserError(f"tokenizer.file={file}: not a tokenizer.json ({str(error).splitlines()[0]})") from None

    def find(key: str, wanted: str | None, usual: Sequence[str]) -> int | None:
        if wanted is not None and wanted not in tokenizer.pieces:
            raise UserError(f"tokenizer.{key}={wanted}: {file} has no such piece{nearest(wanted, tokenizer.pieces)}")
        names = usual if wanted is None else (wanted,)
        return next((tokenizer.pieces[name] for name in names if name in tokenizer.pieces), None)

    return tokenizer, (find("pad", pad, PADS), find("eos", eos, ENDS))


def _from_model(content: bytes, file: str, eos: str | None, pad: str | None) -> tuple[SentencePiece, tuple[int | None, int | None]]:
    if eos or pad:
        raise UserError("tokenizer.eos and tokenizer.pad are for a tokenizer.json; a SentencePiece model names its own")
    try:
        tokenizer = SentencePiece(content)
    except RuntimeError:
        raise UserError(f"tokenizer.file={file}: neither a tokenizer.json nor a SentencePiece model") from None
    return tokenizer, (tokenizer.pad_id, tokenizer.eos_id)


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    total = 0
    for text in texts:
        yield text
        total += len(text)
        if total >= characters:
            return


def _frequencies(tokenizer: Tokenizer, sample: Sequence[str]) -> np.ndarray:
    """How often each id stands in the first part of the sample, (size,)."""
    ids = tokenizer.encode(list(_first(sample, COUNTED)))
    return np.bincount(np.concatenate(ids), minlength=tokenizer.size)
