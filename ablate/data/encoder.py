"""Documents as tokens on disk, and how many bytes of text each id represents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablate.data.cpu_count import cores
from ablate.data.data_faults import DataFaults
from ablate.data.in_order import in_order
from ablate.data.shards import Writer, read_shards
from ablate.data.spool import Spool, TextBlock
from ablate.data.ticker import Ticker
from ablate.data.tokenizer_backends import MARK, Tokenizer
from ablate.data.unfinished import Journal, WrittenBlock, digest
from ablate.data.vocabulary import Layout
from ablate.errors import UserError

BLOCK = 1 << 19  # bytes of text that a thread encodes at once
AHEAD = 4  # blocks for each thread that wait, or are worked on, at a time
LONGEST = 1 << 20  # characters of one text that a tokenizer is given


@dataclass(frozen=True)
class TokenBlock:
    """Documents that follow each other, as tokens.

    ids: end to end, each document with its end-of-sequence, in the type of the shards. lengths: tokens of each
    document, int64. counts: how often each id occurs, (vocab_size,) int64, without the ends of documents.
    long, marks: documents that were encoded in pieces, and U+2581 in the text.
    """

    ids: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    long: int
    marks: int

    def written(self) -> WrittenBlock:
        return WrittenBlock(len(self.lengths), len(self.ids), self.long, self.marks, digest(self.ids))


class Encoder:
    """Writes the documents of the parts as tokens, on all cores, and counts the ids.

    counts: how often each id occurs in a part, (vocab_size,) int64, by the part's name; ends of documents left out.
    """

    def __init__(self, tokenizer: Tokenizer, layout: Layout, parts: Sequence[str], faults: DataFaults, ticker: Ticker):
        self._tokenizer, self._layout, self._faults, self._ticker = tokenizer, layout, faults, ticker
        self.counts = {part: np.zeros(layout.vocab_size, np.int64) for part in parts}

    def write(self, spool: Spool, writer: Writer, journal: Journal) -> dict[str, Any]:
        """Write a part's documents, each followed by the end-of-sequence; returns the manifest's entry for the part.

        Those that `journal` vouches for are there already. The bytes are the same whatever was there, and whatever the
        number of cores.
        """
        part, where = writer.part, f"the {writer.part} part"
        total = len(spool.lengths)
        long = marks = 0
        for block in self._kept(writer, journal):
            writer.keep(block.ids, block.lengths)
            self.counts[part] += block.counts
            long, marks = long + block.long, marks + block.marks
        if done := len(writer.lengths):
            self._ticker.say(f"{done:,} of {total:,} documents of {where} were encoded before")
        for block in self._encoded(spool, done):
            writer.add(block.ids, block.lengths)
            writer.flush()
            journal.add(block.written())
            self.counts[part] += block.counts
            long, marks = long + block.long, marks + block.marks
            self._ticker.maybe(f"encoded {len(writer.lengths):,} of {total:,} documents of {where}")
        if long:
            self._faults.note(f"document of more than {LONGEST:,} characters, encoded in pieces", where, long)
        if marks and self._tokenizer.reads_mark_as_space:
            self._faults.note("U+2581, read as a space by the tokenizer", where, marks)
        unknown = self._tokenizer.unknown_id
        if unknown is not None and (count := int(self.counts[part][unknown])):
            self._faults.note("text that the tokenizer does not know", where, count)
        return {**writer.close(), "bytes": sum(spool.lengths)}

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

    def _kept(self, writer: Writer, journal: Journal) -> Iterator[TokenBlock]:
        """The blocks that an interrupted process has written, up to the first that is not what it was."""
        blocks = journal.blocks()
        sizes = (block.tokens * writer.dtype.itemsize for block in blocks)
        kept = 0
        for block, content in zip(blocks, read_shards(writer.folder, writer.part, sizes), strict=True):
            if digest(content) != block.digest:
                break
            ids = np.frombuffer(content, writer.dtype)
            ends = np.flatnonzero(ids == self._layout.eos_id)  # which text never has, see `_check`
            yield TokenBlock(ids, np.diff(ends, prepend=-1), self._count(ids, len(ends)), block.long, block.marks)
            kept += 1
        journal.keep(blocks[:kept])

    def _encoded(self, spool: Spool, start: int) -> Iterator[TokenBlock]:
        threads = cores()
        blocks = spool.blocks(BLOCK, start)
        ahead = AHEAD * threads * BLOCK
        return in_order(self._encode, blocks, threads, size=lambda block: len(block.content), ahead=ahead)

    def _encode(self, block: TextBlock) -> TokenBlock:
        texts = list(block.texts())
        documents = self._ids(texts)
        lengths = np.array([len(ids) + 1 for ids in documents], np.int64)
        flat = np.full(lengths.sum(), self._layout.eos_id, np.uint32)
        is_text = np.ones(len(flat), bool)
        is_text[np.cumsum(lengths) - 1] = False
        flat[is_text] = np.concatenate(documents)
        counts = self._count(flat, len(documents))
        self._check(counts)
        long, marks = sum(len(text) > LONGEST for text in texts), sum(text.count(MARK) for text in texts)
        return TokenBlock(flat.astype(self._layout.dtype), lengths, counts, long, marks)

    def _count(self, ids: np.ndarray, ends: int) -> np.ndarray:
        """How often each id occurs, without so many ends of documents."""
        counts = np.bincount(ids, minlength=self._layout.vocab_size)
        counts[self._layout.eos_id] -= ends
        return counts

    def _check(self, counts: np.ndarray) -> None:
        """Raise UserError where text has got the id of the end of a document, or of padding."""
        for what, index in (("the end of a document", self._layout.eos_id), ("padding", self._layout.pad_id)):
            if counts[index]:
                unknown = " that it does not know" if index == self._tokenizer.unknown_id else ""
                raise UserError(
                    f"the tokenizer gives text{unknown} the id {index}, which stands for {what}; take another tokenizer"
                )

    def _ids(self, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text; of a long one, whose encoding could take a hundred times its size, piece by piece."""
        if all(len(text) <= LONGEST for text in texts):
            return self._tokenizer.encode(texts, threads=1)
        in_pieces = (self._tokenizer.encode(list(pieces(text)), threads=1) for text in texts)
        return [np.concatenate(ids) for ids in in_pieces]


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
