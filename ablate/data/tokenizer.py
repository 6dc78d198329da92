"""Which tokenizer: byte-level BPE or Unigram with byte fallback trained at a size, or one loaded from a file.

Each knows the layout of its ids before any text is read, and makes the tokenizer from the train part's documents.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from ablate.data import vocabulary
from ablate.data.cpu_count import cores
from ablate.data.tokenizer_backends import SPECIAL, HuggingFace, SentencePiece, Tokenizer
from ablate.data.tokenizer_description import normalised
from ablate.data.vocabulary import Layout
from ablate.errors import UserError, nearest
from ablate.ranges import VOCABULARY, Ranges

COUNTED = 2_000_000  # characters of text in which pieces are counted, to sort them by frequency
LONGEST_WORD = 256  # characters of a run without a change to or from white space; BPE training is quadratic in them
LONG = re.compile(rf"\S{{{LONGEST_WORD + 1},}}|\s{{{LONGEST_WORD + 1},}}")
ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "[SEP]")
PADS = ("<pad>", "[PAD]", "<|pad|>", "<|padding|>")


class Trained:
    """A tokenizer trained on `characters` of the text; smaller ids are more frequent, as clusters need.

    vocab_size: ids in total, including `sentinels`.
    """

    ranges: ClassVar[Ranges] = {"vocab_size": VOCABULARY}

    def __init__(self, vocab_size: int, sentinels: int, characters: int):
        self.vocab_size, self.sentinels, self.characters = vocab_size, sentinels, characters

    @property
    def layout(self) -> Layout:
        """Its ids; raises UserError if vocab_size leaves too few for text."""
        return vocabulary.trained(self.vocab_size, self.sentinels)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train on the first `characters` of `texts`, a shuffled sample; the same texts give the same tokenizer."""
        sample, cut = [], 0
        for text in _first(texts, self.characters):
            parts = _with_words_cut(text)
            sample += parts
            cut += len(parts) - 1
        made = self._train(sample, self.layout.text_size)
        if cut:
            made.notes[f"cuts of words longer than {LONGEST_WORD} characters, to train the tokenizer"] = cut
        return made

    def _train(self, sample: list[str], size: int) -> Tokenizer:
        raise NotImplementedError


class BPE(Trained):
    """Byte-level BPE (Sennrich et al. 2016; on bytes, Radford et al. 2019): lossless, no unknown character."""

    def _train(self, sample: list[str], size: int) -> Tokenizer:
        from tokenizers import Tokenizer as Fast
        from tokenizers import decoders, models, pre_tokenizers, trainers

        cores()
        fast = Fast(models.BPE())
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.decoder = decoders.ByteLevel()
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(vocab_size=size - len(SPECIAL), initial_alphabet=alphabet, show_progress=False)
        fast.train_from_iterator(sample, trainer)
        # Merges refer to pieces by their text, so that ids can be reassigned by frequency.
        described = json.loads(fast.to_str())
        counts = _frequencies(HuggingFace(fast.to_str()), sample)
        pieces = sorted(described["model"]["vocab"].items(), key=lambda pair: (-counts[pair[1]], pair[1]))
        ordered = [*SPECIAL, *(piece for piece, _ in pieces)]
        described["model"]["vocab"] = {piece: index for index, piece in enumerate(ordered)}
        return HuggingFace(json.dumps(described, ensure_ascii=False))


class Unigram(Trained):
    """Unigram (Kudo 2018) with byte fallback, by SentencePiece.

    Nothing is normalised, and it is lossless but for U+2581, by which it represents a space: that becomes a space.
    """

    def _train(self, sample: list[str], size: int) -> Tokenizer:
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2

        written = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(line for text in sample for line in text.split("\n") if line),
                model_writer=written,
                model_type="unigram",
                vocab_size=size,
                hard_vocab_limit=False,
                byte_fallback=True,
                pad_id=0,
                eos_id=1,
                unk_id=2,
                bos_id=-1,
                pad_piece=SPECIAL[0],
                eos_piece=SPECIAL[1],
                unk_piece=SPECIAL[2],
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,
                max_sentence_length=1 << 20,
                num_threads=1,  # sums over threads would round differently
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"tokenizer=unigram: cannot be trained on this text ({reason})") from None
        # the generated module defines its classes at import, where no type checker sees them
        model = sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())  # type: ignore[attr-defined]
        counts = _frequencies(SentencePiece(written.getvalue()), sample)
        pieces = list(model.pieces)
        order = sorted(range(len(SPECIAL), len(pieces)), key=lambda index: (-counts[index], index))
        del model.pieces[:]
        model.pieces.extend([*pieces[: len(SPECIAL)], *(pieces[index] for index in order)])
        return SentencePiece(model.SerializeToString(deterministic=True))


class Loaded:
    """The tokenizer in a `tokenizer.json` or a SentencePiece model, with its own ids followed by the sentinels.

    Special pieces that a text spells are text. What would shorten a text, add to it or draw at random is switched off.
    eos, pad: its pieces for end-of-sequence and padding; None takes the first usual name that it has, or else adds an
    id. Raises UserError if the file does not exist or is not a tokenizer.
    """

    ranges: ClassVar[Ranges] = {"vocab_size": VOCABULARY}

    def __init__(self, file: str | None, vocab_size: int, sentinels: int, eos: str | None, pad: str | None):
        if not file:
            raise UserError(
                "tokenizer.file: name a tokenizer.json or a SentencePiece model, as in tokenizer.file=my.json"
            )
        if not Path(file).is_file():
            raise UserError(f"tokenizer.file={file}: no such file")
        self.file, self.vocab_size, self.sentinels, self.eos, self.pad = file, vocab_size, sentinels, eos, pad

    @property
    def layout(self) -> Layout:
        """Its ids; raises UserError if they do not fit in vocab_size."""
        tokenizer = self._tokenizer
        if isinstance(tokenizer, SentencePiece):
            if self.eos or self.pad:
                raise UserError(
                    "tokenizer.eos and tokenizer.pad: a SentencePiece model defines its own; leave them null"
                )
            pad, eos = tokenizer.pad_id, tokenizer.eos_id
        else:
            pad, eos = (None if piece is None else tokenizer.pieces[piece] for piece in self._ends(tokenizer.pieces))
        name = f"tokenizer.file={self.file}"
        return vocabulary.loaded(self.vocab_size, self.sentinels, tokenizer.size, pad, eos, name)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer; `texts` are not read."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> HuggingFace | SentencePiece:
        content = Path(self.file).read_bytes()
        is_json = content.lstrip()[:1] == b"{"
        try:
            return self._from_json(content.decode()) if is_json else SentencePiece(content)
        except UserError:
            raise
        except Exception as error:  # both libraries raise various types for a file that they cannot read
            kind = "a tokenizer.json" if is_json else "a SentencePiece model or JSON"
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"tokenizer.file={self.file}: not {kind} ({reason})") from None

    def _from_json(self, description: str) -> HuggingFace:
        ends = self._ends(HuggingFace(description).pieces)
        description, switched_off = normalised(description, [piece for piece in ends if piece is not None])
        return HuggingFace(description, {f"{name} of the tokenizer, switched off": 1 for name in switched_off})

    def _ends(self, pieces: dict[str, int]) -> tuple[str | None, str | None]:
        """The pieces for padding and end-of-sequence, where there are such."""
        return self._piece("pad", self.pad, PADS, pieces), self._piece("eos", self.eos, ENDS, pieces)

    def _piece(self, key: str, piece: str | None, usual: Sequence[str], pieces: dict[str, int]) -> str | None:
        if piece is not None and piece not in pieces:
            raise UserError(f"tokenizer.{key}={piece}: no such piece in {self.file}{nearest(piece, pieces)}")
        names = usual if piece is None else (piece,)
        return next((name for name in names if name in pieces), None)


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The first texts, until they have `characters`."""
    total = 0
    for text in texts:
        yield text
        total += len(text)
        if total >= characters:
            return


def _with_words_cut(text: str) -> list[str]:
    """The text in parts, whose words have no more than LONGEST_WORD characters."""
    parts, begun = [], 0
    for word in LONG.finditer(text):
        for end in range(word.start() + LONGEST_WORD, word.end(), LONGEST_WORD):
            parts.append(text[begun:end])
            begun = end
    return [*parts, text[begun:]]


def _frequencies(tokenizer: Tokenizer, sample: Sequence[str]) -> np.ndarray:
    """How often each id occurs at the start of the shuffled sample, (size,) int64."""
    ids = tokenizer.encode(list(_first(sample, COUNTED)))
    return np.bincount(np.concatenate(ids), minlength=tokenizer.size)
