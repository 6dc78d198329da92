"""The ids of a vocabulary: pieces of text, the sentinels after them, padding and end-of-sequence."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ablate.errors import UserError

UNUSED = 28  # ids behind the sentinels, as in T5: 32,000 pieces + 100 sentinels + 28 = 32,128


@dataclass(frozen=True)
class Layout:
    """The ids of a vocabulary.

        0 ........ text_size ............. text_size + n_sentinels ...... vocab_size
        pieces     sentinel n-1 .. 0       unused (or padding and end, if a loaded tokenizer has none)

    Sentinels count down, as in T5: sentinel 0 has the highest id. Padding also starts a decoder's input.
    """

    vocab_size: int
    text_size: int
    n_sentinels: int
    pad_id: int
    eos_id: int

    @property
    def sentinels(self) -> np.ndarray:
        """Their ids in the order of use, (n_sentinels,) int64."""
        return np.arange(self.text_size + self.n_sentinels - 1, self.text_size - 1, -1)

    def sentinel(self, k: int) -> int:
        """The id of sentinel `k`, counted from 0."""
        if not 0 <= k < self.n_sentinels:
            raise IndexError(f"sentinel {k} of {self.n_sentinels}")
        return self.text_size + self.n_sentinels - 1 - k

    @property
    def mask_id(self) -> int:
        """The id that replaces a masked token: the first sentinel."""
        return self.sentinel(0)

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that can hold every id."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def trained(vocab_size: int, n_sentinels: int) -> Layout:
    """Padding 0, end 1, unknown 2, then pieces up to vocab_size - 28 - n_sentinels; UserError if fewer than 512."""
    text_size = vocab_size - UNUSED - n_sentinels
    if text_size < 512:
        raise UserError(
            f"tokenizer.vocab_size={vocab_size} leaves {max(text_size, 0)} pieces for text besides {n_sentinels} "
            f"sentinels; it must be at least {512 + UNUSED + n_sentinels} (256 of the pieces are bytes)"
        )
    return Layout(vocab_size, text_size, n_sentinels, pad_id=0, eos_id=1)


def loaded(
    vocab_size: int, n_sentinels: int, text_size: int, pad_id: int | None, eos_id: int | None, name: str
) -> Layout:
    """The ids of a loaded tokenizer, followed by the sentinels; raises UserError if they do not fit in vocab_size."""
    end = text_size + n_sentinels
    pad_id, end = (end, end + 1) if pad_id is None else (pad_id, end)
    eos_id, end = (end, end + 1) if eos_id is None else (eos_id, end)
    if end > vocab_size:
        raise UserError(
            f"{name}: its {text_size} pieces with {n_sentinels} sentinels need {end} ids and tokenizer.vocab_size is "
            f"{vocab_size}; set shape.vocab_size={-(-end // 64) * 64} or take another tokenizer"
        )
    return Layout(vocab_size, text_size, n_sentinels, pad_id, eos_id)
