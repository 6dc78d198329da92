"""What a model reads before it writes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """The ids before an answer.

    decoder: what the decoder reads before the answer's first token: the start symbol, and perhaps more; not empty.
    encoder: what the encoder reads; None for a model without one.
    """

    decoder: tuple[int, ...]
    encoder: tuple[int, ...] | None = None
