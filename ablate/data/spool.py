"""The documents of a part of a corpus, kept on disk between their reading and their encoding."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ablate.data.permutation import permute

STRETCH = 1 << 14  # bytes of a document that are drawn together when text is sampled
SHUFFLED = 1 << 12  # stretches whose places are computed at once


@dataclass(frozen=True)
class TextBlock:
    """Documents that follow each other: their UTF-8 end to end, and the bytes of each."""

    content: bytes
    lengths: array[int]

    def texts(self) -> Iterator[str]:
        begin = 0
        for length in self.lengths:
            yield self.content[begin : begin + length].decode()
            begin += length


class Spool:
    """Documents of one part, kept in a file until the tokenizer is known."""

    def __init__(self, file: Path):
        self.file, self.lengths = file, array("q")  # bytes of each document
        self._open = open(file, "xb")  # noqa: SIM115 (closed by `finish`)

    @classmethod
    def finished(cls, file: Path) -> Self | None:
        """The spool that was finished under this name; None where there is none that is whole."""
        spool = cls.__new__(cls)
        spool.file, spool.lengths = file, array("q")
        try:
            spool.lengths.frombytes(np.load(_lengths_of(file), allow_pickle=False).astype(np.int64).tobytes())
            return spool if file.stat().st_size == sum(spool.lengths) else None
        except (OSError, ValueError):
            return None

    def add(self, text: bytes) -> None:
        self._open.write(text)
        self.lengths.append(len(text))

    def finish(self) -> None:
        """Put the documents on the disk, where `finished` finds them; nothing is added any more."""
        with self._open:
            self._open.flush()
            os.fsync(self._open.fileno())
        with open(_lengths_of(self.file), "wb") as opened:
            np.save(opened, np.frombuffer(self.lengths, np.int64))
            opened.flush()
            os.fsync(opened.fileno())

    def blocks(self, size: int, start: int = 0) -> Iterator[TextBlock]:
        """The documents from number `start` on, in blocks of at least `size` bytes; the last one may be smaller."""
        with open(self.file, "rb") as opened:
            opened.seek(sum(self.lengths[:start]))
            lengths, total = array("q"), 0
            for length in self.lengths[start:]:
                lengths.append(length)
                total += length
                if total >= size:
                    yield TextBlock(opened.read(total), lengths)
                    lengths, total = array("q"), 0
            if lengths:
                yield TextBlock(opened.read(total), lengths)

    def sample(self, seed: int) -> Iterator[str]:
        """All of the text in a shuffled order, so that its beginning is an even sample.

        Long documents are cut into stretches, because a few of them could fill the sample; each byte is equally likely
        to come early. A character on a cut is left out.
        """
        lengths = np.frombuffer(self.lengths, np.int64)
        counts = -(-lengths // STRETCH)  # stretches of each document
        ends, begins = np.cumsum(counts), np.cumsum(lengths) - lengths
        with open(self.file, "rb") as opened:
            for start in range(0, ends[-1], SHUFFLED):
                places = np.arange(start, min(start + SHUFFLED, ends[-1]))
                for stretch in permute(places, int(ends[-1]), seed, epoch=0):
                    document = np.searchsorted(ends, stretch, side="right")
                    skipped = int(stretch - (ends[document] - counts[document])) * STRETCH
                    opened.seek(begins[document] + skipped)
                    yield opened.read(min(STRETCH, lengths[document] - skipped)).decode(errors="ignore")


def _lengths_of(file: Path) -> Path:
    return file.with_suffix(".lengths.npy")
