"""Documents as tokens on disk, and how many bytes of text each id represents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ablate.data.data_faults import DataFaults
from ablate.data.shards import Writer
from ablate.data.spool import Spool
from ablate.data.ticker import Ticker
from ablate.data.tokenizer_backends import MARK, Tokenizer
from ablate.data.vocabulary import Layout
from ablate.errors import UserError

BATCH = 1 << 21  # characters that are encoded at once
LONGEST = 1 << 20  # characters of one text that a tokenizer is given


class Encoder:
    """Writes the documents of the parts as tokens, and counts the ids.

    counts: how often each id occurs in a part, (vocab_size,) int64, by the part's name; ends of documents left out.
    """

    def __init__(self, tokenizer: Tokenizer, layout: Layout, parts: Sequence[str], faults: DataFaults, ticker: Ticker):
        self._tokenizer, self._layout, self._faults, self._ticker = tokenizer, layout, faults, ticker
        self.counts = {part: np.zeros(layout.vocab_size, np.int64) for part in parts}

    def write(self, spool: Spool, writer: Writer) -> dict[str, Any]:
        """Write a part's documents, each followed by the end-of-sequence; returns the manifest's entry for the part."""
        where = f"the {writer.part} part"
        batch: list[str] = []
        size = done = marks = long = 0
        for text in spool.texts():
            batch.append(text)
            long += len(text) > LONGEST
            size += len(text)
            marks += text.count(MARK)
            if size >= BATCH:
                self._add(batch, writer)
                done += len(batch)
                batch, size = [], 0
                self._ticker.maybe(f"encoded {done:,} of {len(spool.lengths):,} documents of the {writer.part} part")
        if batch:
            self._add(batch, writer)
        if long:
            self._faults.note(f"document of more than {LONGEST:,} characters, encoded in pieces", where, long)
        if marks and self._tokenizer.reads_mark_as_space:
            self._faults.note("U+2581, read as a space by the tokenizer", where, marks)
        unknown = self._tokenizer.unknown_id
        if unknown is not None and (count := int(self.counts[writer.part][unknown])):
            self._faults.note("text that the tokenizer does not know", where, count)
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
        documents = self._encoded(texts)
        counts = np.bincount(np.concatenate(documents), minlength=self._layout.vocab_size)
        self._check(counts)
        end = np.array([self._layout.eos_id], np.uint32)
        writer.add([np.concatenate([ids, end]) for ids in documents])
        self.counts[writer.part] += counts

    def _check(self, counts: np.ndarray) -> None:
        """Raise UserError where text has got the id of the end of a document, or of padding."""
        for what, index in (("the end of a document", self._layout.eos_id), ("padding", self._layout.pad_id)):
            if counts[index]:
                unknown = " that it does not know" if index == self._tokenizer.unknown_id else ""
                raise UserError(
                    f"the tokenizer gives text{unknown} the id {index}, which stands for {what}; take another tokenizer"
                )

    def _encoded(self, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text; of a long one, whose encoding could take a hundred times its size, piece by piece."""
        if all(len(text) <= LONGEST for text in texts):
            return self._tokenizer.encode(texts)
        return [np.concatenate([self._tokenizer.encode([piece])[0] for piece in pieces(text)]) for text in texts]


def pieces(text: str, longest: int = LONGEST) -> Iterator[str]:
    """The text in pieces of at most `longest` characters, cut before a space between two words where there is one.

    Byte-level BPE begins a new word there, so that the ids are those of the whole; a word that is longer itself is cut
    where it stands, and a tokenizer that puts a space before each text puts one before each piece.
    """
    start = 0
    while len(text) - start > longest:
        space = text.rfind(" ", start + 1, start + longest + 1)
        while space > 0 and (text[space - 1].isspace() or text[space + 1].isspace()):
            space = text.rfind(" ", start + 1, space)
        end = space if space > 0 else start + longest
        yield text[start:end]
        start = end
    yield text[start:]
