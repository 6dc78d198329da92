"""The documents of a part of a corpus, kept on disk between their reading and their encoding."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ablate.data.permutation import permute

STRETCH = 1 << 14  # bytes of a document that are drawn together when text is sampled
SHUFFLED = 1 << 12  # stretches whose places are computed at once


class Spool:
    """Documents of one part, kept in a file until the tokenizer is known."""

    def __init__(self, file: Path):
        self.file, self.lengths = file, array("q")  # bytes of each document
        self._open = open(file, "xb")  # noqa: SIM115 (closed by `close`)

    def add(self, text: bytes) -> None:
        self._open.write(text)
        self.lengths.append(len(text))

    def texts(self) -> Iterator[str]:
        self._open.flush()
        with open(self.file, "rb") as opened:
            for length in self.lengths:
                yield opened.read(length).decode()

    def sample(self, seed: int) -> Iterator[str]:
        """All of the text in a shuffled order, so that its beginning is an even sample.

        Long documents are cut into stretches, because a few of them could fill the sample; each byte is equally likely
        to come early. A character on a cut is left out.
        """
        self._open.flush()
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

    def close(self) -> None:
        self._open.close()
        self.file.unlink()
